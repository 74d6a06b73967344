/* Eight lanes, for machines with AVX2. */
#include "blake3.h"

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2")))
#define LANES 8
typedef __m256i vec;
#define ADD _mm256_add_epi32
#define XOR _mm256_xor_si256
#define BYTES(...) _mm256_setr_epi8(__VA_ARGS__, __VA_ARGS__)
#define ROR16(x) _mm256_shuffle_epi8(x, BYTES(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13))
#define ROR8(x) _mm256_shuffle_epi8(x, BYTES(1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12))
#define ROR12(x) _mm256_or_si256(_mm256_srli_epi32(x, 12), _mm256_slli_epi32(x, 20))
#define ROR7(x) _mm256_or_si256(_mm256_srli_epi32(x, 7), _mm256_slli_epi32(x, 25))
#define SPLAT(x) _mm256_set1_epi32((int)(x))
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define SELECT(mask, a, b) _mm256_blendv_epi8(a, b, lanes_of(mask))
#define TRANSPOSE_IN transpose_in

TARGET static inline vec lanes_of(unsigned mask)
{
    const vec bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);

    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)mask), bits), bits);
}

/* The 8 x 8 transposition of half a block of each lane, from byte *offset* on. */
TARGET static inline __attribute__((always_inline)) void transpose_half(vec m[8], const uint8_t *const p[8], int offset)
{
    vec a[8], b[8];
    int i;

    for (i = 0; i < 8; i++)
        a[i] = LOAD(p[i] + offset);
    for (i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (i = 0; i < 8; i += 4) {
        a[i] = _mm256_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm256_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm256_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm256_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    for (i = 0; i < 4; i++) {
        m[i] = _mm256_permute2x128_si256(a[i], a[4 + i], 0x20);
        m[4 + i] = _mm256_permute2x128_si256(a[i], a[4 + i], 0x31);
    }
}

TARGET static inline __attribute__((always_inline)) void transpose_in(vec m[16], const uint8_t *const p[8])
{
    transpose_half(m, p, 0);
    transpose_half(m + 8, p, 32);
}

#include "blake3_lanes.h"

static int usable(void)
{
    return __builtin_cpu_supports("avx2");
}

const b3_kernel b3_avx2 = {"avx2", LANES, leaves, ragged, parents, usable};
#endif
