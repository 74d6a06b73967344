/* Sixteen lanes, for machines with AVX-512. */
#include "blake3.h"

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512vl")))
#define LANES 16
typedef __m512i vec;
#define ADD _mm512_add_epi32
#define XOR _mm512_xor_si512
#define ROR16(x) _mm512_ror_epi32(x, 16)
#define ROR12(x) _mm512_ror_epi32(x, 12)
#define ROR8(x) _mm512_ror_epi32(x, 8)
#define ROR7(x) _mm512_ror_epi32(x, 7)
#define SPLAT(x) _mm512_set1_epi32((int)(x))
#define LOAD(p) _mm512_loadu_si512(p)
#define STORE(p, v) _mm512_storeu_si512(p, v)
#define SELECT(mask, a, b) _mm512_mask_blend_epi32((__mmask16)(mask), a, b)
#define TRANSPOSE_IN transpose_in

/* A 16 x 16 transposition in four steps: words, pairs of words, then quarters of a vector twice. */
TARGET static inline __attribute__((always_inline)) void transpose_in(vec m[16], const uint8_t *const p[16])
{
    vec a[16], b[16];
    int i;

    for (i = 0; i < 16; i++)
        a[i] = _mm512_loadu_si512(p[i]);
    for (i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (i = 0; i < 16; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    /* a[4g + w]: quarter q holds word 4q + w of lanes 4g to 4g + 3 */
    for (i = 0; i < 4; i++) {
        const vec even = _mm512_shuffle_i32x4(a[i], a[4 + i], 0x88), odd = _mm512_shuffle_i32x4(a[i], a[4 + i], 0xdd);
        const vec even2 = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0x88),
                  odd2 = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0xdd);

        m[i] = _mm512_shuffle_i32x4(even, even2, 0x88);
        m[8 + i] = _mm512_shuffle_i32x4(even, even2, 0xdd);
        m[4 + i] = _mm512_shuffle_i32x4(odd, odd2, 0x88);
        m[12 + i] = _mm512_shuffle_i32x4(odd, odd2, 0xdd);
    }
}

#include "blake3_lanes.h"

static int usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
}

const b3_kernel b3_avx512 = {"avx512", LANES, leaves, ragged, parents, usable};
#endif
