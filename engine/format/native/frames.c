#include "frames.h"

#include <stdlib.h>
#include <string.h>

enum { RUN_ROW = 61, HOLE_ROW = 9, TAKEN_ROW = 13, HEAD = 9, MAX_FRAME = 80 << 20 };

const char *const fr_words[] = {
    "",
    "out of memory",
    "a recipe has a row that we do not know",
    "a recipe has an empty run",
    "a recipe points beside the frames of a pack",
    "a frame has an impossible size",
    "a recipe names chunks that are not in the frame",
    "a recipe's run holds another number of bytes than it says",
    "a frame is too short",
    "a frame's head makes no sense",
    "a frame is compressed in a way we do not know",
    "a frame does not hold the bytes it says",
};

static uint32_t u32(const uint8_t *at)
{
    return (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0];
}

static uint64_t u64(const uint8_t *at)
{
    return (uint64_t)u32(at + 4) << 32 | u32(at);
}

/* Make room for one more of *size* bytes. */
static int more(void **items, size_t count, size_t *room, size_t size)
{
    const size_t wish = count < 64 ? 64 : 2 * count;
    void *larger;

    if (count < *room)
        return 1;
    larger = realloc(*items, wish * size);
    if (larger == NULL)
        return 0;
    *items = larger;
    *room = wish;
    return 1;
}

/* -- taking rows --------------------------------------------------------------------------------------------------- */

/* The number of a pack, by a table of numbers + 1 that has room for all. */
static uint32_t pack_number(fr_window *window, uint32_t *table, size_t mask, const uint8_t *pack)
{
    size_t i = (size_t)u64(pack) & mask;

    for (; table[i] != 0; i = (i + 1) & mask)
        if (memcmp(window->packs[table[i] - 1], pack, FR_PACK) == 0)
            return table[i] - 1;
    window->packs[window->pack_count++] = pack;
    table[i] = (uint32_t)window->pack_count;
    return table[i] - 1;
}

static int by_place(const void *one, const void *other)
{
    const fr_run *a = one, *b = other;

    if (a->pack != b->pack)
        return a->pack < b->pack ? -1 : 1;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

/* Runs that lie close together are read at once; packs come in the order of their first use. */
static fr_status find_extents(fr_window *window, const fr_limits *limits)
{
    size_t i = 0;

    if (window->run_count == 0)
        return FR_OK;
    qsort(window->runs, window->run_count, sizeof *window->runs, by_place);
    window->extents = malloc(window->run_count * sizeof *window->extents);
    if (window->extents == NULL)
        return FR_NO_MEMORY;
    while (i < window->run_count) {
        const fr_run *first = &window->runs[i], *run = first;
        fr_extent *extent = &window->extents[window->extent_count++];

        extent->pack = first->pack;
        extent->first = (uint32_t)i;
        extent->start = first->offset <= limits->near_start ? 0 : first->offset;
        extent->end = 0;
        for (; i < window->run_count; i++) {
            run = &window->runs[i];
            if (run->pack != first->pack || (run != first && run->offset > extent->end + limits->gap))
                break;
            if ((uint64_t)run->offset + run->length > extent->end)
                extent->end = (uint64_t)run->offset + run->length;
        }
        extent->stop = (uint32_t)i;
    }
    return FR_OK;
}

/* Pages that [at, at + size) touches and that are not below *next*, which is then behind them; of what is not fetched only those count
 * that are not wholly within. */
static uint64_t touched(uint64_t at, uint64_t size, int fetched, uint64_t page, uint64_t *next)
{
    uint64_t first = at / page, stop = (at + size + page - 1) / page, count = 0;

    if (!fetched) {
        if (at % page != 0 && first >= *next) {
            count++;
            *next = first + 1;
        }
        if ((at + size) % page == 0)
            return count;
        first = (at + size) / page;
    }
    if (first < *next)
        first = *next;
    if (stop > first) {
        count += stop - first;
        *next = stop;
    }
    return count;
}

static fr_status take_row(fr_window *window, const uint8_t *row, uint64_t at, uint32_t pack)
{
    fr_gap *gap;

    if (row[0] == 1) {
        fr_run *run;

        if (!more((void **)&window->runs, window->run_count, &window->run_room, sizeof *window->runs))
            return FR_NO_MEMORY;
        run = &window->runs[window->run_count];
        run->pack = pack;
        run->frame = u32(row + 33);
        run->skip = u32(row + 37);
        run->count = u32(row + 41);
        run->offset = u32(row + 45);
        run->length = u32(row + 49);
        run->plain = u64(row + 53);
        run->at = at;
        run->slot = window->chunks;
        run->chunks_placed = 0;
        run->plain_placed = 0;
        run->row = (uint32_t)window->run_count++;
        window->chunks += run->count;
        return FR_OK;
    }
    if (!more((void **)&window->gaps, window->gap_count, &window->gap_room, sizeof *window->gaps))
        return FR_NO_MEMORY;
    gap = &window->gaps[window->gap_count++];
    gap->at = at;
    gap->size = u64(row + 1);
    gap->slot = window->chunks;
    gap->count = row[0] == 3 ? u32(row + 9) : 0;
    window->chunks += gap->count;
    return FR_OK;
}

fr_status fr_next_row(const uint8_t *rows, size_t size, size_t *at, int *kind, uint64_t *plain)
{
    const uint8_t *row = rows + *at;
    const size_t left = size - *at;
    uint64_t length = row[0] == 1 ? RUN_ROW : row[0] == 2 ? HOLE_ROW : row[0] == 3 ? TAKEN_ROW : 0;

    if (length == TAKEN_ROW && left >= TAKEN_ROW)
        length += (uint64_t)FR_ID * u32(row + 9);
    if (length == 0 || length > left || (row[0] == 3 && u32(row + 9) == 0))
        return FR_BAD_ROW;
    *kind = row[0];
    *plain = u64(row[0] == 1 ? row + 53 : row + 1);
    if (row[0] == 1 && (u32(row + 41) == 0 || u32(row + 49) == 0 || *plain == 0))
        return FR_EMPTY_RUN;
    /* A frame has four bytes for each chunk, and a pack's table twenty. */
    if (row[0] == 1 && (u32(row + 41) > u32(row + 49) / 4 || u32(row + 41) > *plain || u32(row + 41) > FR_MOST_RUN))
        return FR_NO_CHUNKS;
    *at += (size_t)length;
    return *plain > INT64_MAX ? FR_OTHER_SIZE : FR_OK;
}

static uint64_t chunks_of(const uint8_t *row)
{
    return row[0] == 1 ? u32(row + 41) : row[0] == 3 ? u32(row + 9) : 0;
}

fr_status fr_window_take(fr_window *window, const uint8_t *rows, size_t size, size_t *at, uint64_t start, const fr_limits *limits)
{
    uint64_t pages = 0, next = start / limits->page;
    size_t count = 0, most = 16, table_size;
    uint32_t *table;
    fr_status status = FR_OK;

    memset(window, 0, sizeof *window);
    window->start = window->end = start;
    while (most < limits->most_rows && most * HOLE_ROW < size - *at)
        most *= 2;
    table_size = 2 * most;
    table = calloc(table_size, sizeof *table);
    window->packs = malloc(most * sizeof *window->packs);
    if (table == NULL || window->packs == NULL)
        status = FR_NO_MEMORY;
    while (status == FR_OK && *at < size && count < limits->most_rows && count < most) {
        const uint8_t *row = rows + *at;
        uint64_t plain, behind = next, more_pages;
        uint32_t pack = 0;
        size_t after = *at;
        int kind;

        status = fr_next_row(rows, size, &after, &kind, &plain);
        if (status != FR_OK)
            break;
        if (plain > (uint64_t)INT64_MAX - window->end) {
            status = FR_OTHER_SIZE;
            break;
        }
        more_pages = touched(window->end, plain, kind == 1, limits->page, &behind);
        if (count > 0 && (pages + more_pages > limits->most_pages || window->chunks + chunks_of(row) > FR_MOST_CHUNKS))
            break;
        if (kind == 1)
            pack = pack_number(window, table, table_size - 1, row + 1);
        status = take_row(window, row, window->end, pack);
        pages += more_pages;
        next = behind;
        window->end += plain;
        *at = after;
        count++;
    }
    free(table);
    window->left = window->run_count;
    return status == FR_OK ? find_extents(window, limits) : status;
}

void fr_window_clear(fr_window *window)
{
    free(window->runs);
    free(window->gaps);
    free(window->extents);
    free(window->packs);
    free(window->open);
    memset(window, 0, sizeof *window);
}

/* -- finding frames ------------------------------------------------------------------------------------------------ */

void fr_begin(fr_window *window, size_t extent)
{
    const fr_extent *found = &window->extents[extent];

    window->extent = found;
    window->cut_at = window->runs[found->first].offset;
    window->ordinal = window->runs[found->first].frame;
    window->next = found->first;
    window->open_count = 0;
}

/* Who needs the frame at hand, which takes *length* bytes, its size included. */
static fr_status needs_of(fr_window *window, uint64_t length, fr_cut *cut)
{
    const uint64_t start = window->cut_at, end = start + length;
    size_t i, kept = 0;

    for (; window->next < window->extent->stop && window->runs[window->next].offset <= start; window->next++) {
        const fr_run *run = &window->runs[window->next];

        if (run->offset != start || run->frame != window->ordinal)
            return FR_BESIDE;
        if (!more((void **)&window->open, window->open_count, &window->open_room, sizeof *window->open))
            return FR_NO_MEMORY;
        window->open[window->open_count++] = window->next;
    }
    for (i = 0; i < window->open_count; i++) {
        const fr_run *run = &window->runs[window->open[i]];

        if (!more((void **)&cut->needs, cut->need_count, &cut->need_room, sizeof *cut->needs))
            return FR_NO_MEMORY;
        cut->needs[cut->need_count++] = window->open[i];
        if ((uint64_t)run->offset + run->length > end)
            window->open[kept++] = window->open[i];
    }
    window->open_count = kept;
    return FR_OK;
}

fr_status fr_find(fr_window *window, const uint8_t *data, size_t size, const uint32_t *masks, size_t mask_count, fr_cut *cut,
                  size_t *consumed)
{
    size_t at = 0, used = 0;

    for (; used < mask_count && size - at >= 4; used++) {
        const uint32_t sealed = u32(data + at) ^ masks[used];
        const size_t first = cut->need_count;
        fr_status status;

        if (sealed > MAX_FRAME + 4096)
            return FR_IMPOSSIBLE;
        if (size - at - 4 < sealed)
            break;
        status = needs_of(window, (uint64_t)sealed + 4, cut);
        if (status != FR_OK)
            return status;
        if (cut->need_count > first) {
            fr_frame *frame;

            if (!more((void **)&cut->frames, cut->count, &cut->room, sizeof *cut->frames))
                return FR_NO_MEMORY;
            frame = &cut->frames[cut->count++];
            frame->ordinal = window->ordinal;
            frame->start = at + 4;
            frame->stop = at + 4 + sealed;
            frame->first_need = first;
            frame->need_count = cut->need_count - first;
        }
        at += (size_t)sealed + 4;
        window->cut_at += (uint64_t)sealed + 4;
        window->ordinal++;
    }
    *consumed = at;
    return FR_OK;
}

/* -- placing ------------------------------------------------------------------------------------------------------- */

/* The sum of sizes first to stop. */
static uint64_t sum(const uint8_t *sizes, uint64_t first, uint64_t stop)
{
    uint64_t total = 0;

    for (; first < stop; first++)
        total += u32(sizes + 4 * first);
    return total;
}

static fr_status read_head(const uint8_t *body, size_t size, fr_head *head)
{
    uint64_t total = 0;
    uint32_t i;

    if (size < HEAD)
        return FR_SHORT_FRAME;
    head->codec = body[0];
    head->plain = u32(body + 1);
    head->count = u32(body + 5);
    if (head->plain > MAX_FRAME || head->count < 1 || head->count > head->plain || (size - HEAD) / 4 < head->count)
        return FR_BAD_HEAD;
    if (head->codec > 1)
        return FR_BAD_CODEC;
    for (i = 0; i < head->count; i++) {
        const uint32_t one = u32(body + HEAD + 4 * (size_t)i);

        if (one == 0)
            return FR_BAD_SUM;
        total += one;
    }
    return total == head->plain ? FR_OK : FR_BAD_SUM;
}

fr_status fr_place(fr_window *window, const uint8_t *body, size_t size, const uint32_t *needs, size_t count, fr_head *head,
                   fr_pick *picks, fr_piece *pieces)
{
    const uint8_t *sizes = body + HEAD;
    uint64_t at = 0, start = 0; /* runs mostly come in the order of the frame's chunks: sums go on from the last one's */
    fr_status status = read_head(body, size, head);
    size_t i;

    for (i = 0; status == FR_OK && i < count; i++) {
        fr_run *run;
        uint64_t skip, there, wanted, plain;

        if (needs[i] >= window->run_count)
            return FR_BESIDE;
        run = &window->runs[needs[i]];
        skip = run->chunks_placed == 0 ? run->skip : 0;
        if (skip >= head->count || run->chunks_placed >= run->count)
            return FR_NO_CHUNKS;
        there = head->count - skip;
        wanted = run->count - run->chunks_placed;
        if (wanted > there)
            wanted = there;
        if (skip < at)
            at = start = 0;
        start += sum(sizes, at, skip);
        at = skip;
        plain = sum(sizes, skip, skip + wanted);
        if (run->plain_placed + plain > run->plain)
            return FR_OTHER_SIZE;
        picks[i] = (fr_pick){skip, wanted, run->slot + run->chunks_placed};
        pieces[i] = (fr_piece){start, plain, run->at + run->plain_placed};
        run->chunks_placed += (uint32_t)wanted;
        run->plain_placed += plain;
        if (run->chunks_placed == run->count) {
            if (run->plain_placed != run->plain)
                return FR_OTHER_SIZE;
            window->left--;
        }
    }
    return status;
}

/* -- zstd ---------------------------------------------------------------------------------------------------------- */

/* RFC 8878, sections 3.1.1 and 3.1.1.2. */
int fr_zstd_is_whole(const uint8_t *payload, size_t size, uint64_t plain)
{
    static const uint8_t dictionary[] = {0, 1, 2, 4};
    uint64_t content = 0;
    unsigned flags, width, i;
    size_t at = 5;
    int last = 0;

    if (size < 6 || u32(payload) != 0xFD2FB528u)
        return 0;
    flags = payload[4];
    if (flags & 8) /* reserved */
        return 0;
    width = flags >> 6 ? 1u << (flags >> 6) : flags & 32 ? 1 : 0;
    if (width == 0) /* does not say */
        return 0;
    at += flags & 32 ? 0 : 1; /* a window, if not a single segment */
    at += dictionary[flags & 3];
    if (size - (at < size ? at : size) < width)
        return 0;
    for (i = 0; i < width; i++)
        content |= (uint64_t)payload[at + i] << (8 * i);
    if (width == 2)
        content += 256;
    if (content != plain)
        return 0;
    at += width;
    while (!last) {
        uint32_t head;

        if (at > size || size - at < 3)
            return 0;
        head = payload[at] | (uint32_t)payload[at + 1] << 8 | (uint32_t)payload[at + 2] << 16;
        last = head & 1;
        at += 3 + ((head >> 1 & 3) == 1 ? 1 : head >> 3);
    }
    return at + (flags & 4 ? 4 : 0) == size;
}
