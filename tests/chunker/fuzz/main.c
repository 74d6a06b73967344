/* fuzz SECONDS [SEED [CASE]]: cases until the time is over; or one of them. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct {
    const char *name;
    void (*run)(void);
    unsigned long long cases;
} parts[] = {{"scan", fuzz_scan, 0}, {"naming", fuzz_naming, 0}, {"idset", fuzz_idset, 0}, {"idruns", fuzz_idruns, 0}};

enum { PARTS = sizeof parts / sizeof parts[0] };

static uint64_t state;
static unsigned long long seed, number;

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t next(void)
{
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t dice(uint64_t n)
{
    return next() % n;
}

void fill_random(uint8_t *data, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++)
        data[i] = (uint8_t)next();
}

static void repeat(uint8_t *data, size_t size, size_t period)
{
    size_t i;

    fill_random(data, size < period ? size : period);
    for (i = period; i < size; i++)
        data[i] = data[i - period];
}

void fill_data(uint8_t *data, size_t size)
{
    static const size_t periods[] = {1, 2, 3, 4, 7, 8, 16, 17, 24, 64, 100, 255, 256, 257, 300};
    static const size_t lengths[] = {1, 200, 255, 256, 257, 700, 2000, 4096, 4352, 9000};
    uint64_t counter = next() >> dice(64), step = 1 + dice(3);
    size_t i, at;

    switch (dice(8)) {
    case 0:
        memset(data, 0, size);
        break;
    case 1:
        repeat(data, size, ONE_OF(periods));
        break;
    case 2: /* a row again and again, here and there another byte */
        repeat(data, size, ONE_OF(periods));
        for (i = 0; i < size / 700; i++)
            data[dice(size)] = (uint8_t)next();
        break;
    case 3:
        for (i = 0; i < size; i++)
            data[i] = (uint8_t)((counter + i / 4 * step) >> (8 * (i % 4)));
        break;
    case 4:
        for (at = 0; at < size;) {
            char row[64];
            const size_t length = (size_t)snprintf(row, sizeof row, "(%llu,'abc',NULL,'2024-01-01'),", (unsigned long long)counter++);

            for (i = 0; i < length && at < size; i++)
                data[at++] = (uint8_t)row[i];
        }
        break;
    case 5: {
        const uint8_t a = (uint8_t)next(), b = (uint8_t)next();

        for (i = 0; i < size; i++)
            data[i] = next() & 1 ? a : b;
        break;
    }
    case 6:
        fill_random(data, size);
        for (i = 0; size != 0 && i <= size / 4000; i++) {
            const size_t length = ONE_OF(lengths);

            at = dice(size);
            memset(data + at, dice(3) ? 0 : (int)dice(256), length < size - at ? length : size - at);
        }
        break;
    default:
        fill_random(data, size);
    }
}

uint8_t *exactly(size_t size, size_t shift)
{
    uint8_t *data = malloc(size + shift);

    if (data == NULL && size + shift != 0) {
        fprintf(stderr, "no memory\n");
        exit(2);
    }
    return data != NULL ? data + shift : NULL;
}

void give_back(uint8_t *data, size_t shift)
{
    if (data != NULL)
        free(data - shift);
}

void failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: not so: %s\nagain: fuzz 0 %llu %llu\n", file, line, what, seed, number);
    abort();
}

static void run(void)
{
    const unsigned part = (unsigned)(number % PARTS);

    state = seed * UINT64_C(0x9e3779b97f4a7c15) + number * UINT64_C(0xd1342543de82ef95);
    parts[part].run();
    parts[part].cases++;
}

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? atof(argv[1]) : 20;
    struct timespec begun, now;
    unsigned i;

    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (unsigned long long)time(NULL);
    if (argc > 3) {
        number = strtoull(argv[3], NULL, 10);
        run();
        return 0;
    }
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do {
        run();
        number++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - begun.tv_sec) + 1e-9 * (double)(now.tv_nsec - begun.tv_nsec) < seconds || number < PARTS);
    printf("fuzzed with seed %llu:", seed);
    for (i = 0; i < PARTS; i++)
        printf(" %llu %s%s", parts[i].cases, parts[i].name, i + 1 < PARTS ? "," : "\n");
    return 0;
}
