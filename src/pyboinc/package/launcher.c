/* The main program on Windows: has the interpreter unpacked, once per host, and runs the application in it.
 *
 * The slot holds runtime.tar and main.zip, or soft links to them. The tar's own name ends in the digest of its content,
 * NAME_<40 digits of SHA-256>.tar, and is unpacked to pb_cache/NAME_<digits> beside it: checked on the way, by one
 * process while others wait, and moved to its place only when it is whole.
 */
#include <windows.h>
#include <bcrypt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define PATH_SIZE 4096
#define DIGITS 40
#define BLOCK 512
#define FAILED 206 /* BOINC's number for a task that could not begin */
#define WAIT_STEP 100
#define WAIT_STEPS 6000 /* ten minutes for another process to unpack */

static void fail(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fprintf(stderr, "pyboinc: ");
    vfprintf(stderr, format, values);
    fprintf(stderr, " (error %lu)\n", GetLastError());
    va_end(values);
    exit(FAILED);
}

static void join(wchar_t *out, const wchar_t *format, ...)
{
    va_list values;
    va_start(values, format);
    int length = _vsnwprintf(out, PATH_SIZE, format, values);
    va_end(values);
    if (length < 0 || length >= PATH_SIZE)
        fail("a path is too long");
}

static BOOL exists(const wchar_t *path)
{
    return GetFileAttributesW(path) != INVALID_FILE_ATTRIBUTES;
}

/* What a file of the slot really is: BOINC's soft link is a file of one line. */
static void resolve(const wchar_t *name, wchar_t *out)
{
    char head[BLOCK] = {0};
    FILE *file = _wfopen(name, L"rb");
    if (!file)
        fail("the slot has no %ls", name);
    fread(head, 1, sizeof head - 1, file);
    fclose(file);
    const char *open = "<soft_link>";
    char *close = strstr(head, "</soft_link>");
    if (strncmp(head, open, strlen(open)) || !close) {
        join(out, L"%ls", name);
        return;
    }
    *close = 0;
    if (!MultiByteToWideChar(CP_UTF8, 0, head + strlen(open), -1, out, PATH_SIZE))
        fail("the soft link %ls cannot be read", name);
}

/* Refuse a tar whose content is not what its name says. */
static void verify(const wchar_t *tar, const wchar_t *expected)
{
    BCRYPT_ALG_HANDLE algorithm;
    BCRYPT_HASH_HANDLE hash;
    static unsigned char data[1 << 16];
    unsigned char digest[32];
    wchar_t found[DIGITS + 1];
    FILE *file = _wfopen(tar, L"rb");
    if (!file || BCryptOpenAlgorithmProvider(&algorithm, BCRYPT_SHA256_ALGORITHM, NULL, 0) ||
        BCryptCreateHash(algorithm, &hash, NULL, 0, NULL, 0, 0))
        fail("%ls cannot be checked", tar);
    size_t length;
    while ((length = fread(data, 1, sizeof data, file)) > 0)
        BCryptHashData(hash, data, (ULONG)length, 0);
    fclose(file);
    BCryptFinishHash(hash, digest, sizeof digest, 0);
    for (int i = 0; i < DIGITS / 2; i++)
        _snwprintf(found + 2 * i, 3, L"%02x", digest[i]);
    if (wcsncmp(found, expected, DIGITS))
        fail("%ls was tampered with: its digest is %ls", tar, found);
}

static int safe(const char *name)
{
    return *name && *name != '/' && !strstr(name, "..") && !strpbrk(name, ":\\");
}

static void make_folders(wchar_t *path)
{
    for (wchar_t *at = wcschr(path, L'\\'); at; at = wcschr(at + 1, L'\\')) {
        *at = 0;
        CreateDirectoryW(path, NULL);
        *at = L'\\';
    }
}

static void unpack(const wchar_t *tar, const wchar_t *into)
{
    char header[BLOCK], data[BLOCK];
    wchar_t path[PATH_SIZE];
    FILE *file = _wfopen(tar, L"rb");
    if (!file)
        fail("%ls cannot be read", tar);
    while (fread(header, 1, BLOCK, file) == BLOCK && header[0]) {
        unsigned sum = 8 * ' ';
        for (int i = 0; i < BLOCK; i++)
            sum += i >= 148 && i < 156 ? 0 : (unsigned char)header[i];
        if (sum != strtoul(header + 148, NULL, 8))
            fail("%ls is damaged", tar);
        header[99] = 0;
        if (!safe(header) || header[156] != '0')
            fail("%ls holds what does not belong there: %s", tar, header);
        for (char *at = header; *at; at++)
            if (*at == '/')
                *at = '\\';
        join(path, L"%ls\\%hs", into, header);
        make_folders(path);
        FILE *out = _wfopen(path, L"wb");
        if (!out)
            fail("%ls cannot be written", path);
        unsigned long long left = strtoull(header + 124, NULL, 8);
        while (left) {
            size_t part = left < BLOCK ? (size_t)left : BLOCK;
            if (fread(data, 1, BLOCK, file) != BLOCK)
                fail("%ls ends too early", tar);
            if (fwrite(data, 1, part, out) != part)
                fail("%ls cannot be written; is the disk full?", path);
            left -= part;
        }
        if (fclose(out))
            fail("%ls cannot be written; is the disk full?", path);
    }
    fclose(file);
}

/* The folder with the interpreter. */
static void ensure(wchar_t *folder)
{
    wchar_t tar[PATH_SIZE], place[PATH_SIZE], ready[PATH_SIZE], lock[PATH_SIZE], fresh[PATH_SIZE];
    resolve(L"runtime.tar", tar);
    join(place, L"%ls", tar);
    wchar_t *slash = wcsrchr(place, L'/'), *back = wcsrchr(place, L'\\');
    wchar_t *name = slash > back ? slash + 1 : back ? back + 1 : place;
    wchar_t *end = wcsrchr(name, L'.');
    wchar_t base[PATH_SIZE];
    if (!end || end - name < DIGITS)
        fail("%ls has no digest in its name", tar);
    join(base, L"%.*ls", (int)(end - name), name);
    *name = 0;
    join(folder, L"%lspb_cache", *place ? place : L".\\");
    CreateDirectoryW(folder, NULL);
    join(lock, L"%ls\\%ls.lock", folder, base);
    join(fresh, L"%ls\\%ls.%lu", folder, base, GetCurrentProcessId());
    join(ready, L"%ls\\%ls", folder, base);
    join(folder, L"%ls", ready);
    if (exists(ready))
        return;
    HANDLE held = INVALID_HANDLE_VALUE;
    for (int i = 0; i < WAIT_STEPS && held == INVALID_HANDLE_VALUE; i++) {
        held = CreateFileW(lock, GENERIC_WRITE, 0, NULL, OPEN_ALWAYS, FILE_FLAG_DELETE_ON_CLOSE, NULL);
        if (held == INVALID_HANDLE_VALUE)
            Sleep(WAIT_STEP);
    }
    if (!exists(ready)) {
        verify(tar, base + wcslen(base) - DIGITS);
        CreateDirectoryW(fresh, NULL);
        unpack(tar, fresh);
        if (!MoveFileExW(fresh, ready, 0) && !exists(ready))
            fail("%ls cannot be put in its place", ready);
    }
    CloseHandle(held);
}

/* What follows the program's own name on the command line. */
static const wchar_t *arguments(void)
{
    const wchar_t *at = GetCommandLineW();
    wchar_t end = *at == L'"' ? L'"' : L' ';
    for (at++; *at && *at != end; at++)
        ;
    return *at ? at + 1 : at;
}

int main(void)
{
    static wchar_t folder[PATH_SIZE], program[PATH_SIZE], command[4 * PATH_SIZE];
    ensure(folder);
    resolve(L"main.zip", program);
    _snwprintf(command, 4 * PATH_SIZE - 1, L"\"%ls\\python.exe\" \"%ls\" %ls", folder, program, arguments());

    /* Whoever ends this process ends the interpreter with it. */
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    HANDLE job = CreateJobObjectW(NULL, NULL);
    SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);

    STARTUPINFOW startup = {.cb = sizeof startup};
    PROCESS_INFORMATION process;
    if (!CreateProcessW(NULL, command, NULL, NULL, TRUE, CREATE_SUSPENDED, NULL, NULL, &startup, &process))
        fail("%ls\\python.exe cannot be started", folder);
    if (!AssignProcessToJobObject(job, process.hProcess)) {
        TerminateProcess(process.hProcess, FAILED);
        fail("the interpreter cannot be put into a job object");
    }
    ResumeThread(process.hThread);
    WaitForSingleObject(process.hProcess, INFINITE);
    DWORD code = FAILED;
    GetExitCodeProcess(process.hProcess, &code);
    ExitProcess(code);
}
