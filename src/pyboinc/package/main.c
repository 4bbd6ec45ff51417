/* Python as one file: its standard library is a zip at the end of this executable.
 *
 * Started in a BOINC slot that holds main.zip, or a soft link to it, it runs that with all arguments. Whatever this
 * process starts in turn, and everywhere else, it is a plain Python. Of the host's environment only PYTHONHASHSEED
 * counts, so that a volunteer's own Python set-up changes nothing.
 */
#include <Python.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MARK "PYBOINC_INTERPRETER"
#define APPLICATION "main.zip"

/* The path of this executable, which is also where modules come from. */
static const char *own_path(const char *name)
{
    static char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0)
        return name;
    path[length] = 0;
    return path;
}

/* The application in this slot, or NULL. BOINC's soft link is a file of one line that names the real one. */
static char *application(void)
{
    static char head[512];
    FILE *file = getenv(MARK) ? NULL : fopen(APPLICATION, "rb");
    if (!file)
        return NULL;
    size_t length = fread(head, 1, sizeof head - 1, file);
    fclose(file);
    head[length] = 0;
    const char *open = "<soft_link>";
    char *close = strstr(head, "</soft_link>");
    if (strncmp(head, open, strlen(open)) || !close)
        return strcpy(head, APPLICATION);
    *close = 0;
    return head + strlen(open);
}

static void check(PyStatus status)
{
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
}

int main(int argc, char **argv)
{
    PyPreConfig before;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1; /* the same on every host, whatever its locale */
    check(Py_PreInitialize(&before));

    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.isolated = 0;
    config.safe_path = 0;
    config.site_import = 0;
    config.write_bytecode = 0;
    config.pathconfig_warnings = 0;
    config.install_signal_handlers = 1;

    const char *seed = getenv("PYTHONHASHSEED");
    if (seed && *seed && strcmp(seed, "random")) {
        config.use_hash_seed = 1;
        config.hash_seed = strtoul(seed, NULL, 10);
    }

    const char *own = own_path(argv[0]);
    char *program = application();
    if (program) {
        argv[0] = program;
        setenv(MARK, "1", 1);
        check(PyConfig_SetBytesString(&config, &config.run_filename, program));
    }
    config.parse_argv = program == NULL;
    check(PyConfig_SetBytesArgv(&config, argc, argv));

    check(PyConfig_SetBytesString(&config, &config.program_name, own));
    check(PyConfig_SetBytesString(&config, &config.executable, own));
    check(PyConfig_SetBytesString(&config, &config.home, own));
    check(PyConfig_SetBytesString(&config, &config.stdlib_dir, own));
    config.module_search_paths_set = 1;
    check(PyWideStringList_Append(&config.module_search_paths, config.executable));

    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
    return Py_RunMain();
}
