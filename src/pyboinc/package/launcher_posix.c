/* The main program where the interpreter is a tar of many files: has it unpacked, once per host, and becomes it.
 *
 * The slot holds runtime.tar and main.zip, or soft links to them. The tar's own name ends in the digest of its content,
 * NAME_<40 digits of SHA-256>.tar, and is unpacked to pb_cache/NAME_<digits> beside it: checked on the way, by one
 * process while others wait, and moved to its place only when it is whole.
 */
#define _XOPEN_SOURCE 700
#define _DARWIN_C_SOURCE
#define _DEFAULT_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 4096
#define DIGITS 40
#define BLOCK 512
#define FAILED 206 /* BOINC's number for a task that could not begin */
#define WAIT_STEP 100000
#define WAIT_STEPS 6000 /* ten minutes for another process to unpack */

extern char **environ;
static char fresh[PATH_SIZE]; /* what is being unpacked, and is not to stay if that fails */

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status, (void)kind, (void)place;
    return remove(path);
}

static void remove_fresh(void)
{
    if (*fresh)
        nftw(fresh, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void fail(const char *format, ...)
{
    const char *cause = errno ? strerror(errno) : "not what it should be";
    va_list values;
    va_start(values, format);
    fprintf(stderr, "pyboinc: ");
    vfprintf(stderr, format, values);
    fprintf(stderr, " (%s)\n", cause);
    va_end(values);
    remove_fresh();
    exit(FAILED);
}

static void join(char *out, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int length = vsnprintf(out, PATH_SIZE, format, values);
    va_end(values);
    if (length < 0 || length >= PATH_SIZE)
        fail("a path is too long");
}

/* What a file of the slot really is: BOINC's soft link is a file of one line; a project may ask for symbolic links. */
static void resolve(const char *name, char *out)
{
    char head[BLOCK] = {0};
    FILE *file = fopen(name, "rb");
    if (!file)
        fail("the slot has no %s", name);
    fread(head, 1, sizeof head - 1, file);
    fclose(file);
    const char *open = "<soft_link>";
    char *close = strstr(head, "</soft_link>");
    if (!strncmp(head, open, strlen(open)) && close) {
        *close = 0;
        join(out, "%s", head + strlen(open));
        return;
    }
    ssize_t length = readlink(name, out, PATH_SIZE - 1);
    if (length < 0)
        join(out, "%s", name);
    else
        out[length] = 0;
}

/* SHA-256, of FIPS 180-4. The constants are the first bits of the fractional parts of roots of primes. */
static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turn(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void mix(uint32_t *state, const unsigned char *block)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + (turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
               (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]), majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        uint32_t one = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) + choice + K[i] + w[i];
        uint32_t two = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + majority;
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += one;
        s[0] = one + two;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

/* Refuse a tar whose content is not what its name says. */
static void verify(const char *tar, const char *expected)
{
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    unsigned char block[64];
    char found[65];
    uint64_t total = 0;
    size_t length;
    FILE *file = fopen(tar, "rb");
    if (!file)
        fail("%s cannot be checked", tar);
    while ((length = fread(block, 1, sizeof block, file)) == sizeof block) {
        mix(state, block);
        total += length;
    }
    if (ferror(file))
        fail("%s cannot be checked", tar);
    fclose(file);
    total += length;
    memset(block + length, 0, sizeof block - length);
    block[length] = 0x80;
    if (length >= 56) {
        mix(state, block);
        memset(block, 0, sizeof block);
    }
    for (int i = 0; i < 8; i++)
        block[63 - i] = (unsigned char)(total * 8 >> 8 * i);
    mix(state, block);
    for (int i = 0; i < 8; i++)
        snprintf(found + 8 * i, 9, "%08x", state[i]);
    if (strncmp(found, expected, DIGITS)) {
        errno = 0;
        fail("%s was tampered with: its digest is %.*s", tar, DIGITS, found);
    }
}

static int safe(const char *name)
{
    return *name && *name != '/' && !strstr(name, "..") && !strchr(name, '\\');
}

static void make_folders(char *path)
{
    for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        mkdir(path, 0775);
        *at = '/';
    }
}

static void unpack(const char *tar, const char *into)
{
    char header[BLOCK], data[BLOCK], path[PATH_SIZE];
    FILE *file = fopen(tar, "rb");
    if (!file)
        fail("%s cannot be read", tar);
    while (fread(header, 1, BLOCK, file) == BLOCK && header[0]) {
        unsigned sum = 8 * ' ';
        for (int i = 0; i < BLOCK; i++)
            sum += i >= 148 && i < 156 ? 0 : (unsigned char)header[i];
        errno = 0;
        if (sum != strtoul(header + 148, NULL, 8))
            fail("%s is damaged", tar);
        header[99] = 0;
        if (!safe(header) || header[156] != '0')
            fail("%s holds what does not belong there: %s", tar, header);
        join(path, "%s/%s", into, header);
        make_folders(path);
        FILE *out = fopen(path, "wb");
        if (!out)
            fail("%s cannot be written", path);
        unsigned long long left = strtoull(header + 124, NULL, 8);
        while (left) {
            size_t part = left < BLOCK ? (size_t)left : BLOCK;
            if (fread(data, 1, BLOCK, file) != BLOCK)
                fail("%s ends too early", tar);
            if (fwrite(data, 1, part, out) != part)
                fail("%s cannot be written; is the disk full?", path);
            left -= part;
        }
        if (fclose(out))
            fail("%s cannot be written; is the disk full?", path);
        chmod(path, strtoul(header + 100, NULL, 8) & 0100 ? 0755 : 0644);
    }
    fclose(file);
}

/* One process at a time; the system lets go of the lock when its process ends. */
static int lock(const char *path)
{
    int held = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0664);
    if (held < 0)
        fail("%s cannot be made", path);
    for (int i = 0; flock(held, LOCK_EX | LOCK_NB); i++) {
        if (i == WAIT_STEPS)
            fail("another process holds %s for more than ten minutes", path);
        usleep(WAIT_STEP);
    }
    return held;
}

/* The folder with the interpreter. */
static void ensure(char *folder)
{
    char tar[PATH_SIZE], cache[PATH_SIZE], ready[PATH_SIZE], path[PATH_SIZE];
    resolve("runtime.tar", tar);
    const char *slash = strrchr(tar, '/'), *name = slash ? slash + 1 : tar, *end = strrchr(name, '.');
    if (!end || end - name < DIGITS) {
        errno = 0;
        fail("%s has no digest in its name", tar);
    }
    join(cache, "%.*spb_cache", (int)(name - tar), tar);
    mkdir(cache, 0775);
    join(ready, "%s/%.*s", cache, (int)(end - name), name);
    if (access(ready, F_OK)) {
        join(path, "%s.lock", ready);
        int held = lock(path);
        if (access(ready, F_OK)) {
            verify(tar, end - DIGITS);
            join(fresh, "%s.new", ready); /* one that was killed may have left its own */
            remove_fresh();
            mkdir(fresh, 0775);
            unpack(tar, fresh);
            if (rename(fresh, ready))
                fail("%s cannot be put in its place", ready);
            *fresh = 0;
        }
        close(held);
    }
    if (!realpath(ready, folder))
        fail("%s cannot be found", ready);
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
    static char folder[PATH_MAX], python[PATH_SIZE], program[PATH_SIZE];
    (void)count;
    ensure(folder);
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
