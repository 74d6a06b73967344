/* Every scan kernel, fed in random pieces, against a rolling hash that looks at one offset after the other. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "scan.h"

static void shuffle(uint8_t values[16])
{
    unsigned i;

    for (i = 0; i < 16; i++)
        values[i] = (uint8_t)i;
    for (i = 15; i > 0; i--) {
        const unsigned j = (unsigned)dice(i + 1);
        const uint8_t value = values[i];

        values[i] = values[j];
        values[j] = value;
    }
}

static void put(uint8_t *p, uint64_t value, int size)
{
    int i;

    for (i = 0; i < size; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

static void random_rule(sl_rule *rule)
{
    static const unsigned least[] = {256, 256, 257, 300, 344, 512, 1376, 2752, 5504};
    static const unsigned more[] = {1, 2, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000, 5000, 20000};
    static const unsigned targets[] = {2, 3, 64, 100, 126, 500, 672, 1344, 2688, 20000};
    const unsigned min = ONE_OF(least), target = ONE_OF(targets);
    uint8_t packed[SL_RULE_SIZE], p[16], q[16], r[16];
    uint64_t accept;
    unsigned bits = 1, i;

    shuffle(p);
    shuffle(r);
    fill_random(q, 16);
    for (i = 0; i < 256; i++)
        packed[i] = (uint8_t)(p[i & 15] | ((q[i & 15] ^ r[i >> 4]) & 15) << 4);
    fill_random(packed + 256, 16);
    while (bits < 13 && 2u << bits <= target)
        bits++;
    accept = (uint64_t)(((__extension__(unsigned __int128)1) << (64 + bits)) / target - 1);
    if (dice(8) == 0) { /* dense or rare candidates, and all or none of them cut points */
        bits = 1 + (unsigned)dice(13);
        accept = dice(2) ? UINT64_MAX : 0;
    }
    put(packed + 272, accept, 8);
    put(packed + 280, min, 8);
    put(packed + 288, min + ONE_OF(more), 8);
    put(packed + 296, bits, 4);
    EXPECT(sl_rule_load(rule, packed) == 0);
    i = (unsigned)dice(256);
    packed[i] ^= (uint8_t)(1 + dice(255));
    if (i % 16 != 0 && i / 16 != 0) { /* no longer made of two halves */
        sl_rule spoilt;

        EXPECT(sl_rule_load(&spoilt, packed) == -1);
    }
}

static uint64_t rotated(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static void rounds(uint64_t v[4], int count)
{
    while (count-- > 0) {
        v[0] += v[1], v[1] = rotated(v[1], 13) ^ v[0], v[0] = rotated(v[0], 32);
        v[2] += v[3], v[3] = rotated(v[3], 16) ^ v[2];
        v[0] += v[3], v[3] = rotated(v[3], 21) ^ v[0];
        v[2] += v[1], v[1] = rotated(v[1], 17) ^ v[2], v[2] = rotated(v[2], 32);
    }
}

static uint64_t siphash(const sl_rule *rule, const uint8_t *window)
{
    uint64_t v[4] = {rule->k0 ^ UINT64_C(0x736f6d6570736575), rule->k1 ^ UINT64_C(0x646f72616e646f6d),
                     rule->k0 ^ UINT64_C(0x6c7967656e657261), rule->k1 ^ UINT64_C(0x7465646279746573)};
    int i, k;

    for (i = 0; i <= 32; i++) {
        uint64_t word = 0; /* the length of a window is 0 mod 256: the last word, too */

        for (k = 0; i < 32 && k < 8; k++)
            word |= (uint64_t)window[8 * i + k] << (8 * k);
        v[3] ^= word;
        rounds(v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The end of the chunk that begins at *data*. */
static size_t model(const sl_rule *rule, const uint8_t *data, size_t left)
{
    const uint8_t *refused = NULL;
    uint16_t h = 0, leaving = 1;
    size_t e, i;

    for (i = 0; i < 256; i++)
        leaving = (uint16_t)(109u * leaving);
    for (e = 1; e <= left && e < rule->max; e++) {
        h = (uint16_t)(109u * h + rule->sbox[data[e - 1]]);
        if (e > 256)
            h = (uint16_t)(h - (unsigned)leaving * rule->sbox[data[e - 257]]);
        if (e < rule->min || h >> (16 - rule->bits) != 1)
            continue;
        if (refused != NULL && memcmp(refused, data + e - 256, 256) == 0)
            continue;
        if (siphash(rule, data + e - 256) <= rule->accept)
            return e;
        refused = data + e - 256;
    }
    return left < rule->max ? left : (size_t)rule->max;
}

/* Feed *data* to a kernel in random pieces, each in memory of its own. */
static size_t cut_in_pieces(const sl_rule *rule, sl_scan scan, const uint8_t *data, size_t size, uint64_t *ends)
{
    static const size_t steps[] = {0, 1, 50, 64, 255, 256, 300, 1000, 5000, 40000, 1 << 20};
    const size_t usual = ONE_OF(steps);
    size_t start = 0, seen = 0, next = 0, count = 0;
    int final;

    do {
        const size_t step = dice(3) && (usual > 50 || size < 3000) ? usual : ONE_OF(steps), shift = dice(2) ? dice(65) : 0;
        size_t room, found, i;
        uint64_t *some;
        uint8_t *piece;

        seen += step < size - seen ? step : size - seen;
        final = seen == size && dice(2);
        piece = exactly(seen - start, shift);
        if (seen != start)
            memcpy(piece, data + start, seen - start);
        room = (seen - start) / (size_t)rule->min + 1;
        some = (uint64_t *)(void *)exactly(room * sizeof *some, 0);
        found = sl_cut(rule, scan, piece, seen - start, final, &next, some);
        EXPECT(found <= room);
        for (i = 0; i < found; i++)
            ends[count++] = start + some[i];
        if (found != 0)
            start += (size_t)some[found - 1];
        give_back((uint8_t *)some, 0);
        give_back(piece, shift);
    } while (!final);
    return count;
}

/* Cut *data* in blocks, each as if a chunk began with it, and join them. */
static size_t cut_in_blocks(const sl_rule *rule, sl_scan scan, const uint8_t *data, size_t size, uint64_t *ends)
{
    static const size_t steps[] = {1, 50, 256, 300, 1000, 5000, 40000, 1 << 20};
    const size_t usual = ONE_OF(steps);
    size_t start = 0, at = 0, count = 0;
    int final;

    do {
        const size_t step = usual > 50 || size < 3000 ? usual : ONE_OF(steps), left = size - at;
        const size_t length = step < left ? step : left, rest = at - start;
        const size_t room = (rest + length) / (size_t)rule->min + 1;
        uint8_t *block = exactly(length, 0), *joined = exactly(rest + length, 0);
        uint64_t *guess = (uint64_t *)(void *)exactly((length / (size_t)rule->min + 1) * sizeof *guess, 0);
        uint64_t *some = (uint64_t *)(void *)exactly(room * sizeof *some, 0);
        size_t next = 0, guesses, found, i;

        if (length != 0)
            memcpy(block, data + at, length);
        if (rest + length != 0)
            memcpy(joined, data + start, rest + length);
        at += length;
        final = at == size && dice(2);
        guesses = sl_cut(rule, scan, block, length, 0, &next, guess);
        found = sl_join(rule, scan, joined, rest + length, rest, guess, guesses, final, some);
        EXPECT(found <= room);
        for (i = 0; i < found; i++)
            ends[count++] = start + some[i];
        if (found != 0)
            start += (size_t)some[found - 1];
        give_back((uint8_t *)some, 0);
        give_back((uint8_t *)guess, 0);
        give_back(joined, 0);
        give_back(block, 0);
    } while (!final);
    return count;
}

void fuzz_scan(void)
{
    static const size_t sizes[] = {0, 1, 255, 256, 257, 700, 3000, 20000, 60000};
    const sl_kernel *const *kernel;
    const size_t size = ONE_OF(sizes) + dice(70);
    uint8_t *data = exactly(size, 0);
    uint64_t *expected, *ends;
    size_t count = 0, start = 0, room;
    sl_rule rule;

    fill_data(data, size);
    random_rule(&rule);
    if (size != 0 && dice(4) == 0) { /* a run that ends where comparing does; where it ends, few sums are candidates */
        const size_t run = (size_t)rule.min + 4096 * (size_t)dice(3);
        unsigned byte = (unsigned)dice(256);

        while (rule.sbox[byte] != 0 && dice(1000) != 0)
            byte = (byte + 1) % 256;
        memset(data, (int)byte, run < size ? run : size);
    }
    room = (size / (size_t)rule.min + 1) * sizeof *ends;
    expected = (uint64_t *)(void *)exactly(room, 0);
    ends = (uint64_t *)(void *)exactly(room, 0);
    while (start < size)
        expected[count++] = start += model(&rule, data + start, size - start);
    for (kernel = sl_kernels; *kernel != NULL; kernel++) {
        if ((*kernel)->usable != NULL && !(*kernel)->usable())
            continue;
        EXPECT(cut_in_pieces(&rule, (*kernel)->scan, data, size, ends) == count);
        EXPECT(count == 0 || memcmp(ends, expected, count * sizeof *ends) == 0);
        EXPECT(cut_in_blocks(&rule, (*kernel)->scan, data, size, ends) == count);
        EXPECT(count == 0 || memcmp(ends, expected, count * sizeof *ends) == 0);
    }
    give_back((uint8_t *)expected, 0);
    give_back((uint8_t *)ends, 0);
    give_back(data, 0);
}
