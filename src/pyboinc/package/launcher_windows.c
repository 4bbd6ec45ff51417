/* The main program on Windows: has the interpreter unpacked, and runs the application in it. */
#include "launcher.h"

#include <stdlib.h>
#include <wchar.h>
#include <windows.h>

#define MOVE_TRIES 100 /* ten seconds for who looks into new files: virus scanners, the search index */

const char separators[] = "/\\";
static wchar_t wide_path[2][PATH_SIZE];

/* A path as the system wants it; `slot` tells two at a time apart. */
static const wchar_t *wide(const char *path, int slot)
{
    if (!MultiByteToWideChar(CP_UTF8, 0, path, -1, wide_path[slot], PATH_SIZE))
        fail("the path %s cannot be read", path);
    return wide_path[slot];
}

const char *reason(void)
{
    static char text[40];
    snprintf(text, sizeof text, "error %lu", GetLastError());
    return text;
}

FILE *open_file(const char *path, const char *mode)
{
    return _wfopen(wide(path, 0), wide(mode, 1));
}

int exists(const char *path)
{
    return GetFileAttributesW(wide(path, 0)) != INVALID_FILE_ATTRIBUTES;
}

int read_link(const char *path, char *out)
{
    (void)path, (void)out;
    return 0; /* clients make none here */
}

void make_folder(const char *path)
{
    CreateDirectoryW(wide(path, 0), NULL);
}

void make_executable(const char *path)
{
    (void)path;
}

static void remove_wide(const wchar_t *path)
{
    wchar_t *inside = malloc(PATH_SIZE * sizeof *inside);
    WIN32_FIND_DATAW found;
    if (!inside || _snwprintf(inside, PATH_SIZE - 1, L"%ls/*", path) < 0) {
        free(inside);
        return;
    }
    HANDLE search = FindFirstFileW(inside, &found);
    if (search != INVALID_HANDLE_VALUE) {
        do {
            if (!wcscmp(found.cFileName, L".") || !wcscmp(found.cFileName, L".."))
                continue;
            inside[PATH_SIZE - 1] = 0;
            if (_snwprintf(inside, PATH_SIZE - 1, L"%ls/%ls", path, found.cFileName) < 0)
                continue;
            if (!(found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY))
                DeleteFileW(inside);
            else if (found.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT)
                RemoveDirectoryW(inside); /* a link to a folder: what it leads to stays */
            else
                remove_wide(inside);
        } while (FindNextFileW(search, &found));
        FindClose(search);
    }
    free(inside);
    RemoveDirectoryW(path);
}

void remove_folder(const char *path)
{
    wchar_t own[PATH_SIZE];
    wcscpy(own, wide(path, 0));
    remove_wide(own);
}

int move_folder(const char *from, const char *to)
{
    for (int i = 0; i < MOVE_TRIES; i++) {
        if (MoveFileExW(wide(from, 0), wide(to, 1), 0))
            return 0;
        pause_for(100);
    }
    return -1;
}

long long try_lock(const char *path)
{
    HANDLE held = CreateFileW(wide(path, 0), GENERIC_WRITE, 0, NULL, OPEN_ALWAYS, FILE_FLAG_DELETE_ON_CLOSE, NULL);
    if (held != INVALID_HANDLE_VALUE)
        return (long long)(intptr_t)held;
    DWORD error = GetLastError();
    if (error != ERROR_SHARING_VIOLATION && error != ERROR_ACCESS_DENIED) /* the latter while its last holder lets go */
        fail("%s cannot be made", path);
    return -1;
}

void unlock(long long held)
{
    CloseHandle((HANDLE)(intptr_t)held);
}

void pause_for(unsigned milliseconds)
{
    Sleep(milliseconds);
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
    static char folder[PATH_SIZE], program[PATH_SIZE];
    static wchar_t command[4 * PATH_SIZE];
    ensure(folder);
    resolve("main.zip", program);
    _snwprintf(
        command, 4 * PATH_SIZE - 1, L"\"%ls/python.exe\" \"%ls\" %ls", wide(folder, 0), wide(program, 1), arguments());

    /* Whoever ends this process ends the interpreter with it. */
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    HANDLE job = CreateJobObjectW(NULL, NULL);
    SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);

    STARTUPINFOW startup = {.cb = sizeof startup};
    PROCESS_INFORMATION process;
    if (!CreateProcessW(NULL, command, NULL, NULL, TRUE, CREATE_SUSPENDED, NULL, NULL, &startup, &process))
        fail("%s/python.exe cannot be started", folder);
    if (!AssignProcessToJobObject(job, process.hProcess)) {
        TerminateProcess(process.hProcess, CANNOT_BEGIN);
        fail("the interpreter cannot be put into a job object");
    }
    ResumeThread(process.hThread);
    WaitForSingleObject(process.hProcess, INFINITE);
    DWORD code = CANNOT_BEGIN;
    GetExitCodeProcess(process.hProcess, &code);
    ExitProcess(code);
}
