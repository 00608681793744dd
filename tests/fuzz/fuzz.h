/* What a fuzzer defines, and the seeds it begins with where libFuzzer is not at hand. */
#ifndef QFS_TESTS_FUZZ_H
#define QFS_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Seed number i into `out` (of `max` bytes); 0 behind the last one. */
size_t fuzz_seed(size_t i, uint8_t *out, size_t max);

#endif
