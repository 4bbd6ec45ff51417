/* The main program on macOS, and on Linux where the interpreter is a tar of many files: has it unpacked, and becomes it. */
#define _XOPEN_SOURCE 700
#define _DARWIN_C_SOURCE
#define _DEFAULT_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;
const char separators[] = "/";

const char *reason(void)
{
    return strerror(errno);
}

FILE *open_file(const char *path, const char *mode)
{
    return fopen(path, mode);
}

int exists(const char *path)
{
    return !access(path, F_OK);
}

int read_link(const char *path, char *out)
{
    ssize_t length = readlink(path, out, PATH_SIZE - 1);
    if (length >= 0)
        out[length] = 0;
    return length >= 0;
}

void make_folder(const char *path)
{
    mkdir(path, 0775);
}

void make_executable(const char *path)
{
    chmod(path, 0755);
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status, (void)kind, (void)place;
    return remove(path);
}

void remove_folder(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int move_folder(const char *from, const char *to)
{
    return rename(from, to);
}

long long try_lock(const char *path)
{
    int held = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0664);
    if (held < 0)
        fail("%s cannot be made", path);
    if (!flock(held, LOCK_EX | LOCK_NB))
        return held;
    close(held);
    return -1;
}

void unlock(long long held)
{
    close((int)held);
}

void pause_for(unsigned milliseconds)
{
    usleep(1000 * milliseconds);
}

/* The volunteer's own settings of Python do not count, but for the one that a main program passes to its child. */
static void clean_environment(void)
{
    char name[PATH_SIZE];
    for (char **at = environ; *at;) {
        size_t length = strcspn(*at, "=");
        int drop = !strncmp(*at, "PYTHON", 6) && strncmp(*at, "PYTHONHASHSEED=", 15) && length < PATH_SIZE;
        if (drop) {
            join(name, "%.*s", (int)length, *at);
            unsetenv(name);
            at = environ;
        } else
            at++;
    }
    setenv("PYTHONNOUSERSITE", "1", 1);
    setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
    setenv("PYTHONUTF8", "1", 1);
}

int main(int count, char **words)
{
    static char ready[PATH_SIZE], folder[PATH_MAX], python[PATH_SIZE], program[PATH_SIZE];
    ensure(ready);
    if (!realpath(ready, folder))
        fail("%s cannot be found", ready);
    resolve("main.zip", program);
    join(python, "%s/bin/python3", folder);
    clean_environment();
    char **command = calloc((size_t)count + 2, sizeof *command);
    if (!command)
        fail("no memory");
    command[0] = python;
    command[1] = program;
    memcpy(command + 2, words + 1, ((size_t)count - 1) * sizeof *command);
    execv(python, command);
    fail("%s cannot be started", python);
}
