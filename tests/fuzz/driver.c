/* Runs a fuzzer without libFuzzer: random mutations of its seeds for FUZZ_SECONDS (15), from the seed FUZZ_SEED (the time). The input
 * under test is kept in a file until it has passed, so that a crash leaves it behind. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

enum { INPUT_MAX = 4096 };

static size_t mutate(uint8_t *input, size_t len)
{
    int changes = 1 + rand() % 8;

    while (changes--) {
        size_t at = len ? (size_t)rand() % len : 0, n;

        switch (rand() % 5) {
        case 0: /* a bit */
            if (len)
                input[at] ^= (uint8_t)(1 << rand() % 8);
            break;
        case 1: /* a byte */
            if (len)
                input[at] = (uint8_t)rand();
            break;
        case 2: /* cut out */
            n = len ? (size_t)rand() % (len - at) : 0;
            memmove(input + at, input + at + n, len - at - n);
            len -= n;
            break;
        case 3: /* repeat a piece */
            n = len ? (size_t)rand() % (len - at) : 0;
            n = n > INPUT_MAX - len ? INPUT_MAX - len : n;
            memmove(input + at + n, input + at, len - at);
            len += n;
            break;
        default: /* put bytes in */
            n = 1 + (size_t)rand() % 8;
            if (len + n > INPUT_MAX)
                break;
            memmove(input + at + n, input + at, len - at);
            for (size_t i = 0; i < n; i++)
                input[at + i] = (uint8_t)(rand() % 3 ? rand() : 0xff);
            len += n;
        }
    }
    return len;
}

static void keep(const char *path, const uint8_t *input, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, input, len) != (ssize_t)len)
        fprintf(stderr, "cannot keep the input in \"%s\"\n", path);
    if (fd >= 0)
        close(fd);
}

int main(void)
{
    const char *seconds = getenv("FUZZ_SECONDS"), *seed = getenv("FUZZ_SEED");
    unsigned start = seed ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)time(NULL);
    time_t end = time(NULL) + (seconds ? atoi(seconds) : 15);
    static uint8_t input[INPUT_MAX];
    char path[] = "/tmp/fuzz-input.XXXXXX";
    size_t seeds = 0, runs = 0, len;
    int fd = mkstemp(path);

    if (fd >= 0)
        close(fd);
    while (fuzz_seed(seeds, input, sizeof input))
        seeds++;
    printf("FUZZ_SEED=%u, %zu seeds, the input under test is in %s\n", start, seeds, path);
    fflush(stdout);
    srand(start);
    for (size_t i = 0; i < seeds; i++) {
        len = fuzz_seed(i, input, sizeof input);
        LLVMFuzzerTestOneInput(input, len);
    }
    while (time(NULL) < end) {
        for (int i = 0; i < 100; i++, runs++) {
            len = mutate(input, fuzz_seed((size_t)rand() % seeds, input, sizeof input));
            keep(path, input, len);
            LLVMFuzzerTestOneInput(input, len);
        }
    }
    unlink(path);
    printf("%zu inputs passed\n", runs);
    return 0;
}
