/* What the launchers of all systems share, and what each system has of its own. Paths are UTF-8. */
#ifndef LAUNCHER_H
#define LAUNCHER_H

#include <stdio.h>

#define PATH_SIZE 4096
#define CANNOT_BEGIN 206 /* BOINC's number for a task that could not begin */

/* End the program with what is wrong: with the system's reason, or where the text says it all. */
void fail(const char *format, ...);
void refuse(const char *format, ...);

/* A path made as by printf; one that is too long is an error. */
void join(char *out, const char *format, ...);

/* What a file of the slot really is: BOINC's soft link is a file of one line; a project may ask for symbolic links. */
void resolve(const char *name, char *out);

/* The folder with the interpreter, unpacked now if it is not there. */
void ensure(char *folder);

/* The system's. */
extern const char separators[];
const char *reason(void);
FILE *open_file(const char *path, const char *mode);
int exists(const char *path);
int read_link(const char *path, char *out); /* whether it is a symbolic link */
void make_folder(const char *path);
void make_executable(const char *path);
void remove_folder(const char *path); /* with all that is in it; nothing if it is not there */
int move_folder(const char *from, const char *to);
long long try_lock(const char *path); /* negative while another process has it */
void unlock(long long held);
void pause_for(unsigned milliseconds);

#endif
