/* Has the interpreter unpacked, once per host.
 *
 * The slot holds runtime.tar and main.zip, or soft links to them. The tar's own name ends in the digest of its content,
 * NAME_<40 digits of SHA-256>.tar, and is unpacked to pb_cache/NAME_<digits> beside it: checked on the way, by one
 * process while others wait, and moved to its place only when it is whole.
 */
#include "launcher.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS 40
#define BLOCK 512
#define WAIT_STEP 100
#define WAIT_STEPS 6000 /* ten minutes for another process to unpack */

/* What is being unpacked, which is not to stay if that fails, and the file that is being written. */
static char fresh[PATH_SIZE];
static FILE *writing;

static void end(const char *cause, const char *format, va_list values)
{
    fprintf(stderr, "pyboinc: ");
    vfprintf(stderr, format, values);
    fprintf(stderr, cause ? " (%s)\n" : "\n", cause);
    if (writing)
        fclose(writing); /* Windows removes no file that is open */
    if (*fresh)
        remove_folder(fresh);
    exit(CANNOT_BEGIN);
}

void fail(const char *format, ...)
{
    const char *cause = reason();
    va_list values;
    va_start(values, format);
    end(cause, format, values);
}

void refuse(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    end(NULL, format, values);
}

void join(char *out, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int length = vsnprintf(out, PATH_SIZE, format, values);
    va_end(values);
    if (length < 0 || length >= PATH_SIZE)
        refuse("a path is too long");
}

void resolve(const char *name, char *out)
{
    char head[BLOCK] = {0};
    FILE *file = open_file(name, "rb");
    if (!file)
        fail("the slot has no %s", name);
    size_t length = fread(head, 1, sizeof head - 1, file);
    fclose(file);
    const char *opening = "<soft_link>";
    char *closing = length ? strstr(head, "</soft_link>") : NULL;
    if (closing && !strncmp(head, opening, strlen(opening))) {
        *closing = 0;
        join(out, "%s", head + strlen(opening));
    } else if (!read_link(name, out))
        join(out, "%s", name);
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
    FILE *file = open_file(tar, "rb");
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
        snprintf(found + 8 * i, 9, "%08x", (unsigned)state[i]);
    if (strncmp(found, expected, DIGITS))
        refuse("%s was tampered with: its digest is %.*s", tar, DIGITS, found);
}

static int safe(const char *name)
{
    return *name && *name != '/' && !strstr(name, "..") && !strpbrk(name, ":\\");
}

/* The folders of a file, `from` on. */
static void make_folders(char *path, size_t from)
{
    for (char *at = strchr(path + from, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        make_folder(path);
        *at = '/';
    }
}

static void unpack(const char *tar, const char *into)
{
    char header[BLOCK], data[BLOCK], path[PATH_SIZE];
    FILE *file = open_file(tar, "rb");
    if (!file)
        fail("%s cannot be read", tar);
    while (fread(header, 1, BLOCK, file) == BLOCK && header[0]) {
        unsigned sum = 8 * ' ';
        for (int i = 0; i < BLOCK; i++)
            sum += i >= 148 && i < 156 ? 0 : (unsigned char)header[i];
        if (sum != strtoul(header + 148, NULL, 8))
            refuse("%s is damaged", tar);
        header[99] = 0;
        if (!safe(header) || header[156] != '0')
            refuse("%s holds what does not belong there: %s", tar, header);
        join(path, "%s/%s", into, header);
        make_folders(path, strlen(into) + 1);
        writing = open_file(path, "wb");
        if (!writing)
            fail("%s cannot be written", path);
        unsigned long long left = strtoull(header + 124, NULL, 8);
        while (left) {
            size_t part = left < BLOCK ? (size_t)left : BLOCK;
            if (fread(data, 1, BLOCK, file) != BLOCK)
                refuse("%s ends too early", tar);
            if (fwrite(data, 1, part, writing) != part)
                fail("%s cannot be written; is the disk full?", path);
            left -= part;
        }
        int unwritten = fclose(writing);
        writing = NULL;
        if (unwritten)
            fail("%s cannot be written; is the disk full?", path);
        if (strtoul(header + 100, NULL, 8) & 0100)
            make_executable(path);
    }
    fclose(file);
}

static const char *base_name(const char *path)
{
    const char *name = path;
    for (const char *at = path; *at; at++)
        if (strchr(separators, *at))
            name = at + 1;
    return name;
}

static long long wait_for(const char *lock)
{
    long long held;
    for (int i = 0; (held = try_lock(lock)) < 0; i++) {
        if (i == WAIT_STEPS)
            refuse("another process holds %s for more than ten minutes", lock);
        pause_for(WAIT_STEP);
    }
    return held;
}

void ensure(char *folder)
{
    char tar[PATH_SIZE], cache[PATH_SIZE], lock[PATH_SIZE];
    resolve("runtime.tar", tar);
    const char *name = base_name(tar), *dot = strrchr(name, '.');
    if (!dot || dot - name < DIGITS)
        refuse("%s has no digest in its name", tar);
    join(cache, "%.*spb_cache", (int)(name - tar), tar);
    make_folder(cache);
    join(folder, "%s/%.*s", cache, (int)(dot - name), name);
    if (exists(folder))
        return;
    join(lock, "%s.lock", folder);
    long long held = wait_for(lock);
    if (!exists(folder)) {
        verify(tar, dot - DIGITS);
        join(fresh, "%s.new", folder); /* one that was killed may have left its own */
        remove_folder(fresh);
        make_folder(fresh);
        unpack(tar, fresh);
        if (move_folder(fresh, folder))
            fail("%s cannot be put in its place", folder);
        *fresh = 0;
    }
    unlock(held);
}
