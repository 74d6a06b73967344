/* Every naming kernel against keyed BLAKE3 as its paper draws it: one leaf, one block, one word after the other. */
#include "fuzz.h"

#include <string.h>

#include "blake3.h"

static uint32_t rotated(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void mix(uint32_t v[16], int a, int b, int c, int d, uint32_t x, uint32_t y)
{
    v[a] += v[b] + x;
    v[d] = rotated(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = rotated(v[b] ^ v[c], 12);
    v[a] += v[b] + y;
    v[d] = rotated(v[d] ^ v[a], 8);
    v[c] += v[d];
    v[b] = rotated(v[b] ^ v[c], 7);
}

static void compress(uint32_t h[8], const uint8_t block[64], uint64_t counter, uint32_t length, uint32_t flags)
{
    static const uint32_t iv[4] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a};
    static const uint8_t order[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};
    uint32_t v[16], m[16], moved[16];
    int i, round;

    for (i = 0; i < 16; i++)
        m[i] = (uint32_t)block[4 * i] | (uint32_t)block[4 * i + 1] << 8 | (uint32_t)block[4 * i + 2] << 16 |
               (uint32_t)block[4 * i + 3] << 24;
    memcpy(v, h, 32);
    memcpy(v + 8, iv, 16);
    v[12] = (uint32_t)counter;
    v[13] = (uint32_t)(counter >> 32);
    v[14] = length;
    v[15] = flags;
    for (round = 0; round < 7; round++) {
        for (i = 0; i < 4; i++)
            mix(v, i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1]);
        for (i = 0; i < 4; i++)
            mix(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i]);
        for (i = 0; i < 16; i++)
            moved[i] = m[order[i]];
        memcpy(m, moved, sizeof m);
    }
    for (i = 0; i < 8; i++)
        h[i] = v[i] ^ v[8 + i];
}

/* The value of a subtree whose first leaf has number *counter*. */
static void model(uint32_t h[8], const uint32_t key[8], const uint8_t *data, size_t size, uint64_t counter, uint32_t root)
{
    uint8_t block[64];
    size_t at = 0, left = 1024;
    uint32_t halves[2][8];
    int i;

    memcpy(h, key, 32);
    if (size <= 1024) {
        do {
            const size_t length = size - at < 64 ? size - at : 64;

            memset(block, 0, sizeof block);
            if (length != 0)
                memcpy(block, data + at, length);
            at += length;
            compress(h, block, counter, (uint32_t)length,
                     B3_KEYED | (at <= 64 ? B3_CHUNK_START : 0u) | (at == size ? B3_CHUNK_END | root : 0u));
        } while (at < size);
        return;
    }
    while (2 * left < size)
        left *= 2;
    model(halves[0], key, data, left, counter, 0);
    model(halves[1], key, data + left, size - left, counter + left / 1024, 0);
    for (i = 0; i < 64; i++)
        block[i] = (uint8_t)(halves[i / 32][i / 4 % 8] >> (8 * (i % 4)));
    compress(h, block, 0, 64, B3_KEYED | B3_PARENT | root);
}

/* A published vector, so that the model itself is right: 1025 bytes 0 to 250, over and over. */
static void check_model(void)
{
    static const uint8_t expected[16] = {0x35, 0x7d, 0xc5, 0x5d, 0xe0, 0xc7, 0xe3, 0x82,
                                         0xc9, 0x00, 0xfd, 0x6e, 0x32, 0x0a, 0xcc, 0x04};
    uint8_t data[1025];
    uint32_t key[8], h[8];
    unsigned i;

    memcpy(key, "whats the Elvish word for friend", 32);
    for (i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i % 251);
    model(h, key, data, sizeof data, 0, B3_ROOT);
    EXPECT(memcmp(h, expected, sizeof expected) == 0);
}

enum { MOST = 90 };

static size_t random_size(void)
{
    static const size_t round[] = {0, 1, 64, 1023, 1024, 1025, 2048, 4096, 8192, 8193, 16384};

    switch (dice(8)) {
    case 0:
        return dice(1500);
    case 1:
    case 2:
        return ONE_OF(round);
    case 3:
        return dice(40000);
    case 4:
        return dice(40) ? dice(9000) : 131072 * (1 + dice(4)) + dice(3) * 1023; /* in several parts */
    default:
        return dice(9000);
    }
}

void fuzz_naming(void)
{
    const b3_kernel *const *kernel;
    const size_t count = dice(3) ? dice(12) : dice(MOST), shift = dice(2) ? dice(65) : 0;
    uint64_t *ends = (uint64_t *)(void *)exactly(count * sizeof *ends, 0);
    uint8_t *ids = exactly(count * SL_ID, 0), *expected = exactly(count * SL_ID, 0), *data, *scratch;
    size_t size = 0, longest = 0, i;
    uint32_t key[8];

    check_model();
    fill_random((uint8_t *)key, sizeof key);
    for (i = 0; i < count; i++) {
        const size_t one = random_size();

        size += one;
        ends[i] = size;
        longest = one > longest ? one : longest;
    }
    data = exactly(size, shift);
    fill_random(data, size);
    for (i = 0; i < count; i++) {
        uint8_t *chunk = data + (i != 0 ? ends[i - 1] : 0);
        const size_t length = (size_t)(ends[i] - (i != 0 ? ends[i - 1] : 0));
        uint32_t h[8];

        if (length != 0 && dice(6) == 0) {
            memset(chunk, 0, length);
            if (dice(2)) {
                memset(expected + SL_ID * i, 0, SL_ID);
                continue;
            }
            chunk[dice(length)] = 1;
        } else if (length != 0) {
            chunk[0] |= 1; /* no hole by accident */
        }
        model(h, key, chunk, length, 0, B3_ROOT);
        memcpy(expected + SL_ID * i, h, SL_ID); /* kernels are for little-endian machines only, this file as well */
    }
    for (kernel = b3_kernels; *kernel != NULL; kernel++) {
        if ((*kernel)->usable != NULL && !(*kernel)->usable())
            continue;
        scratch = exactly(sl_name_scratch(longest), 0);
        sl_name(*kernel, key, data, ends, count, ids, scratch);
        give_back(scratch, 0);
        EXPECT(count == 0 || memcmp(ids, expected, count * SL_ID) == 0);
    }
    give_back((uint8_t *)ends, 0);
    give_back(ids, 0);
    give_back(expected, 0);
    give_back(data, shift);
}
