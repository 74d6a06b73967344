/* The door to Python: everything here checks what comes in, calls frames.c and pages.c, and makes objects of what they found. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "frames.h"
#include "pages.h"

/* Bytes from which on copying lets go of the GIL: for less it takes longer to get it back from others than to copy. */
enum { LET_GO = 256 << 10 };

static PyObject *failed(fr_status status)
{
    if (status == FR_NO_MEMORY)
        return PyErr_NoMemory();
    PyErr_SetString(PyExc_ValueError, fr_words[status]);
    return NULL;
}

/* -- the window ---------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD fr_window window;
    Py_buffer rows;
    Py_ssize_t next;
    PyObject *ids;
} WindowObject;

PyDoc_STRVAR(window_doc, "Window(rows, at, start, page, most_pages, most_rows, gap, near_start, /)\n--\n\nSee ../window.py, which has the same in Python.");

static void window_dealloc(WindowObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    fr_window_clear(&self->window);
    if (self->rows.obj != NULL)
        PyBuffer_Release(&self->rows);
    Py_XDECREF(self->ids);
    type->tp_free(self);
    Py_DECREF(type);
}

/* What is there already has its ids in the rows. */
static void copy_ids(WindowObject *self, const uint8_t *row, const uint8_t *end)
{
    uint8_t *ids = (uint8_t *)PyByteArray_AS_STRING(self->ids);
    size_t gap = 0;

    while (row < end) {
        if (row[0] == 3) {
            fr_gap *found;
            size_t size;

            while (self->window.gaps[gap].count == 0)
                gap++;
            found = &self->window.gaps[gap++];
            size = (size_t)found->count * FR_ID;
            memcpy(ids + found->slot * FR_ID, row + 13, size);
            row += 13 + size;
        } else {
            row += row[0] == 1 ? 61 : 9;
        }
    }
}

static PyObject *window_new(PyTypeObject *type, PyObject *args, PyObject *words)
{
    static char *names[] = {"", "", "", "", "", "", "", "", NULL};
    WindowObject *self = (WindowObject *)type->tp_alloc(type, 0); /* zeroed */
    unsigned long long start, page, pages, most, gap, near;
    Py_ssize_t at;
    size_t next;
    fr_limits limits;
    fr_status status;

    if (self == NULL)
        return NULL;
    if (!PyArg_ParseTupleAndKeywords(args, words, "y*nKKKKKK:Window", names, &self->rows, &at, &start, &page, &pages, &most, &gap,
                                     &near)) {
        Py_DECREF(self);
        return NULL;
    }
    if (at < 0 || at > self->rows.len || page == 0 || pages == 0 || most == 0 || most > 1 << 24 || start > INT64_MAX) {
        PyErr_SetString(PyExc_ValueError, "not a place among the rows, or limits that make no sense");
        Py_DECREF(self);
        return NULL;
    }
    limits = (fr_limits){(size_t)page, (size_t)pages, (size_t)most, gap, near};
    next = (size_t)at;
    status = fr_window_take(&self->window, self->rows.buf, (size_t)self->rows.len, &next, start, &limits);
    self->next = (Py_ssize_t)next;
    if (status == FR_OK && self->window.chunks > PY_SSIZE_T_MAX / FR_ID)
        status = FR_NO_MEMORY;
    if (status != FR_OK) {
        failed(status);
        Py_DECREF(self);
        return NULL;
    }
    self->ids = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(self->window.chunks * FR_ID));
    if (self->ids == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    memset(PyByteArray_AS_STRING(self->ids), 0, self->window.chunks * FR_ID);
    copy_ids(self, (const uint8_t *)self->rows.buf + at, (const uint8_t *)self->rows.buf + next);
    return (PyObject *)self;
}

static PyObject *window_extents(WindowObject *self, void *ignored)
{
    PyObject *found = PyList_New((Py_ssize_t)self->window.extent_count);
    size_t i;

    (void)ignored;
    for (i = 0; found != NULL && i < self->window.extent_count; i++) {
        const fr_extent *extent = &self->window.extents[i];
        PyObject *one = Py_BuildValue("(y#KK)", self->window.packs[extent->pack], (Py_ssize_t)FR_PACK,
                                      (unsigned long long)extent->start, (unsigned long long)extent->end);

        if (one == NULL)
            Py_CLEAR(found);
        else
            PyList_SET_ITEM(found, (Py_ssize_t)i, one);
    }
    return found;
}

static PyObject *window_gaps(WindowObject *self, void *ignored)
{
    PyObject *found = PyList_New((Py_ssize_t)self->window.gap_count);
    size_t i;

    (void)ignored;
    for (i = 0; found != NULL && i < self->window.gap_count; i++) {
        const fr_gap *gap = &self->window.gaps[i];
        PyObject *one = Py_BuildValue("(KKKI)", (unsigned long long)gap->at, (unsigned long long)gap->size,
                                      (unsigned long long)gap->slot, (unsigned)gap->count);

        if (one == NULL)
            Py_CLEAR(found);
        else
            PyList_SET_ITEM(found, (Py_ssize_t)i, one);
    }
    return found;
}

static PyObject *window_next(WindowObject *self, void *ignored)
{
    (void)ignored;
    return PyLong_FromSsize_t(self->next);
}

static PyObject *window_end(WindowObject *self, void *ignored)
{
    (void)ignored;
    return PyLong_FromUnsignedLongLong(self->window.end);
}

static PyObject *window_ids(WindowObject *self, void *ignored)
{
    (void)ignored;
    return Py_NewRef(self->ids);
}

static PyObject *window_left(WindowObject *self, void *ignored)
{
    (void)ignored;
    return PyLong_FromSize_t(self->window.left);
}

static PyObject *window_whole(WindowObject *self, void *ignored)
{
    const fr_window *window = &self->window;

    (void)ignored;
    return PyBool_FromLong(window->extent != NULL && window->cut_at == window->extent->end && window->next == window->extent->stop);
}

static PyObject *window_ordinal(WindowObject *self, void *ignored)
{
    (void)ignored;
    return PyLong_FromUnsignedLong(self->window.ordinal);
}

PyDoc_STRVAR(begin_doc, "begin(extent, /)\n--\n\nThe frames of this extent are looked for now; return where the first of them begins in the pack.");

static PyObject *window_begin(WindowObject *self, PyObject *number)
{
    const Py_ssize_t extent = PyLong_AsSsize_t(number);

    if (extent == -1 && PyErr_Occurred())
        return NULL;
    if (extent < 0 || (size_t)extent >= self->window.extent_count) {
        PyErr_SetString(PyExc_ValueError, "no such extent");
        return NULL;
    }
    fr_begin(&self->window, (size_t)extent);
    return PyLong_FromUnsignedLongLong(self->window.cut_at);
}

PyDoc_STRVAR(find_doc, "find(data, masks, /)\n--\n\n(bytes used, [(ordinal, start, stop, needs), ...]) of the frames that are whole in data and needed.");

static PyObject *window_find(WindowObject *self, PyObject *args)
{
    Py_buffer data, masks;
    fr_cut cut = {0};
    size_t used = 0, i;
    fr_status status;
    PyObject *frames = NULL, *result = NULL;

    if (!PyArg_ParseTuple(args, "y*y*:find", &data, &masks))
        return NULL;
    if (self->window.extent == NULL) {
        PyErr_SetString(PyExc_ValueError, "no extent has begun");
        goto done;
    }
    status = fr_find(&self->window, data.buf, (size_t)data.len, masks.buf, (size_t)masks.len / 4, &cut, &used);
    if (status != FR_OK) {
        failed(status);
        goto done;
    }
    frames = PyList_New((Py_ssize_t)cut.count);
    for (i = 0; frames != NULL && i < cut.count; i++) {
        const fr_frame *frame = &cut.frames[i];
        PyObject *one = Py_BuildValue("(Inny#)", frame->ordinal, (Py_ssize_t)frame->start, (Py_ssize_t)frame->stop,
                                      (const char *)(cut.needs + frame->first_need), (Py_ssize_t)(4 * frame->need_count));

        if (one == NULL)
            Py_CLEAR(frames);
        else
            PyList_SET_ITEM(frames, (Py_ssize_t)i, one);
    }
    if (frames != NULL)
        result = Py_BuildValue("(nN)", (Py_ssize_t)used, frames);
done:
    free(cut.frames);
    free(cut.needs);
    PyBuffer_Release(&data);
    PyBuffer_Release(&masks);
    return result;
}

PyDoc_STRVAR(place_doc, "place(body, needs, /)\n--\n\n(codec, plain, count, picks, pieces) of an open frame.");

static PyObject *window_place(WindowObject *self, PyObject *args)
{
    Py_buffer body, needs;
    PyObject *picks = NULL, *pieces = NULL, *result = NULL;
    fr_head head;
    fr_status status;
    size_t count;

    if (!PyArg_ParseTuple(args, "y*y*:place", &body, &needs))
        return NULL;
    count = (size_t)needs.len / 4;
    picks = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * sizeof(fr_pick)));
    pieces = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * sizeof(fr_piece)));
    if (picks == NULL || pieces == NULL)
        goto done;
    status = fr_place(&self->window, body.buf, (size_t)body.len, needs.buf, count, &head, (fr_pick *)(void *)PyBytes_AS_STRING(picks),
                      (fr_piece *)(void *)PyBytes_AS_STRING(pieces));
    result = status == FR_OK ? Py_BuildValue("(IIIOO)", head.codec, head.plain, head.count, picks, pieces) : failed(status);
done:
    Py_XDECREF(picks);
    Py_XDECREF(pieces);
    PyBuffer_Release(&body);
    PyBuffer_Release(&needs);
    return result;
}

static PyGetSetDef window_attributes[] = {
    {"extents", (getter)window_extents, NULL, "[(pack, start, end), ...]: what is to be read", NULL},
    {"gaps", (getter)window_gaps, NULL, "[(at, size, slot, count), ...]: what is not read", NULL},
    {"next", (getter)window_next, NULL, "where the first row that was not taken begins", NULL},
    {"end", (getter)window_end, NULL, "where in the stream the window ends", NULL},
    {"ids", (getter)window_ids, NULL, "the chunks' ids, once they have been named", NULL},
    {"left", (getter)window_left, NULL, "how many runs are not placed to their ends", NULL},
    {"whole", (getter)window_whole, NULL, "whether the extent has been gone through to its end", NULL},
    {"ordinal", (getter)window_ordinal, NULL, "the number of the frame at hand", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef window_methods[] = {
    {"begin", (PyCFunction)window_begin, METH_O, begin_doc},
    {"find", (PyCFunction)window_find, METH_VARARGS, find_doc},
    {"place", (PyCFunction)window_place, METH_VARARGS, place_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot window_slots[] = {
    {Py_tp_doc, (void *)window_doc},         {Py_tp_new, window_new},         {Py_tp_dealloc, window_dealloc},
    {Py_tp_methods, window_methods},         {Py_tp_getset, window_attributes}, {0, NULL},
};

static PyType_Spec window_spec = {"strandline.engine.format._frames.Window", sizeof(WindowObject), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, window_slots};

/* -- pages --------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD fr_pages pages;
    Py_buffer *held; /* one for each slot */
    size_t held_room;
} PagesObject;

PyDoc_STRVAR(pages_doc, "Pages(size, stream, /)\n--\n\nSee ../pages.py, which has the same in Python.");

static PyObject *pages_new(PyTypeObject *type, PyObject *args, PyObject *words)
{
    static char *names[] = {"", "", NULL};
    unsigned long long size, stream;
    PagesObject *self;

    if (!PyArg_ParseTupleAndKeywords(args, words, "KK:Pages", names, &size, &stream))
        return NULL;
    if (size == 0 || size > 1 << 30 || stream > INT64_MAX) {
        PyErr_SetString(PyExc_ValueError, "sizes that make no sense");
        return NULL;
    }
    self = (PagesObject *)type->tp_alloc(type, 0); /* zeroed */
    if (self != NULL) {
        self->pages.size = (size_t)size;
        self->pages.stream = stream;
    }
    return (PyObject *)self;
}

static void pages_dealloc(PagesObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    size_t i;

    for (i = 0; i < self->pages.count; i++)
        PyBuffer_Release(&self->held[i]);
    PyMem_RawFree(self->held);
    free(self->pages.slots);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(add_doc, "add(memory, /)\n--\n\nOne more slot: memory of a page's size.");

static PyObject *pages_add(PagesObject *self, PyObject *memory)
{
    Py_buffer held;

    if (PyObject_GetBuffer(memory, &held, PyBUF_WRITABLE) < 0)
        return NULL;
    if ((size_t)held.len != self->pages.size) {
        PyBuffer_Release(&held);
        PyErr_SetString(PyExc_ValueError, "not memory of a page's size");
        return NULL;
    }
    if (self->pages.count == self->held_room) {
        const size_t room = 2 * self->held_room + 16;
        Py_buffer *all = PyMem_RawRealloc(self->held, room * sizeof *all);

        if (all == NULL) {
            PyBuffer_Release(&held);
            return PyErr_NoMemory();
        }
        self->held = all;
        self->held_room = room;
    }
    self->held[self->pages.count] = held;
    if (!fr_pages_add(&self->pages, held.buf)) {
        PyBuffer_Release(&held);
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

/* The pieces in a buffer; NULL with an exception set if they are none, or lie beyond the stream. */
static const fr_piece *pieces_in(const PagesObject *self, const Py_buffer *buffer, size_t *count)
{
    const fr_piece *pieces = buffer->buf;
    size_t i;

    *count = (size_t)buffer->len / sizeof *pieces;
    for (i = 0; i < *count; i++)
        if (pieces[i].size > self->pages.stream || pieces[i].at > self->pages.stream - pieces[i].size) {
            PyErr_SetString(PyExc_ValueError, "a piece beyond the end of the stream");
            return NULL;
        }
    return pieces;
}

PyDoc_STRVAR(claim_doc, "claim(pieces, /)\n--\n\nGive each page that pieces touch a slot; False, and nothing has changed, if there are not enough.");

static PyObject *pages_claim(PagesObject *self, PyObject *args)
{
    Py_buffer buffer;
    const fr_piece *pieces;
    size_t count;
    int enough = 0;

    if (!PyArg_ParseTuple(args, "y*:claim", &buffer))
        return NULL;
    pieces = pieces_in(self, &buffer, &count);
    if (pieces != NULL)
        enough = fr_pages_claim(&self->pages, pieces, count);
    PyBuffer_Release(&buffer);
    return pieces == NULL ? NULL : PyBool_FromLong(enough);
}

/* A part of a piece that lies in one page. */
typedef struct {
    uint8_t *to;
    const uint8_t *from;
    size_t size;
    uint64_t page;
} part;

/* Cut pieces at the pages' ends; the number of parts, or -1 with an exception set. */
static Py_ssize_t cut_pieces(PagesObject *self, const fr_piece *pieces, size_t count, const Py_buffer *data, part **parts)
{
    const size_t size = self->pages.size;
    size_t most = 0, i, n = 0;

    for (i = 0; i < count; i++) {
        if (data != NULL && (pieces[i].size > (uint64_t)data->len || pieces[i].start > (uint64_t)data->len - pieces[i].size)) {
            PyErr_SetString(PyExc_ValueError, "a piece beyond the end of the data");
            return -1;
        }
        most += (size_t)(pieces[i].size / size) + 2;
    }
    *parts = PyMem_RawMalloc(most * sizeof **parts + 1);
    if (*parts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (i = 0; i < count; i++) {
        uint64_t at = pieces[i].at, left = pieces[i].size, start = pieces[i].start;

        while (left > 0) {
            const uint64_t page = at / size;
            const size_t within = (size_t)(at % size);
            const size_t here = left < size - within ? (size_t)left : size - within;
            fr_slot *slot = fr_pages_find(&self->pages, page);

            if (slot == NULL) {
                PyErr_SetString(PyExc_ValueError, "a page that nobody claimed");
                PyMem_RawFree(*parts);
                *parts = NULL;
                return -1;
            }
            (*parts)[n++] = (part){slot->memory + within, data == NULL ? NULL : (const uint8_t *)data->buf + start, here, page};
            at += here;
            left -= here;
            start += here;
        }
    }
    return (Py_ssize_t)n;
}

/* Count what has been filled; a list of the pages that are full now. */
static PyObject *count_parts(PagesObject *self, const part *parts, Py_ssize_t count)
{
    PyObject *full = PyList_New(0);
    Py_ssize_t i;

    for (i = 0; full != NULL && i < count; i++) {
        fr_slot *slot = fr_pages_find(&self->pages, parts[i].page);
        const uint64_t most = fr_page_bytes(&self->pages, parts[i].page);
        PyObject *page;

        if (slot == NULL || slot->filled + parts[i].size > most) {
            PyErr_SetString(PyExc_RuntimeError, "a byte of what is restored was filled twice");
            Py_CLEAR(full);
            break;
        }
        slot->filled += parts[i].size;
        if (slot->filled < most)
            continue;
        page = PyLong_FromUnsignedLongLong(parts[i].page);
        if (page == NULL || PyList_Append(full, page) < 0)
            Py_CLEAR(full);
        Py_XDECREF(page);
    }
    return full;
}

static void copy_parts(const part *parts, Py_ssize_t count)
{
    Py_ssize_t i;

    for (i = 0; i < count; i++)
        memcpy(parts[i].to, parts[i].from, parts[i].size);
}

PyDoc_STRVAR(put_doc, "put(data, pieces, /)\n--\n\nCopy pieces of data into pages that are claimed; return those that are full now.");

static PyObject *pages_put(PagesObject *self, PyObject *args)
{
    Py_buffer data, buffer;
    const fr_piece *pieces;
    PyObject *full = NULL;
    part *parts = NULL;
    size_t count;
    Py_ssize_t n = -1, i, total = 0;

    if (!PyArg_ParseTuple(args, "y*y*:put", &data, &buffer))
        return NULL;
    pieces = pieces_in(self, &buffer, &count);
    if (pieces != NULL)
        n = cut_pieces(self, pieces, count, &data, &parts);
    for (i = 0; i < n; i++)
        total += (Py_ssize_t)parts[i].size;
    if (n >= 0 && total < LET_GO) {
        copy_parts(parts, n);
    } else if (n >= 0) {
        Py_BEGIN_ALLOW_THREADS
        copy_parts(parts, n);
        Py_END_ALLOW_THREADS
    }
    if (n >= 0)
        full = count_parts(self, parts, n);
    PyMem_RawFree(parts);
    PyBuffer_Release(&data);
    PyBuffer_Release(&buffer);
    return full;
}

PyDoc_STRVAR(fill_doc, "fill(pieces, /)\n--\n\nThese pieces are zeros; return the pages that are full now.");

static PyObject *pages_fill(PagesObject *self, PyObject *args)
{
    Py_buffer buffer;
    const fr_piece *pieces;
    PyObject *full = NULL;
    part *parts = NULL;
    size_t count;
    Py_ssize_t n = -1, i;

    if (!PyArg_ParseTuple(args, "y*:fill", &buffer))
        return NULL;
    pieces = pieces_in(self, &buffer, &count);
    if (pieces != NULL)
        n = cut_pieces(self, pieces, count, NULL, &parts);
    for (i = 0; i < n; i++)
        memset(parts[i].to, 0, parts[i].size);
    if (n >= 0)
        full = count_parts(self, parts, n);
    PyMem_RawFree(parts);
    PyBuffer_Release(&buffer);
    return full;
}

static fr_slot *slot_of(PagesObject *self, PyObject *number)
{
    const unsigned long long page = PyLong_AsUnsignedLongLong(number);
    fr_slot *slot;

    if (page == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    slot = fr_pages_find(&self->pages, page);
    if (slot == NULL)
        PyErr_SetString(PyExc_ValueError, "a page that nobody claimed");
    return slot;
}

PyDoc_STRVAR(slot_doc, "slot(page, /)\n--\n\nThe number of the page's slot.");

static PyObject *pages_slot(PagesObject *self, PyObject *number)
{
    const fr_slot *slot = slot_of(self, number);

    return slot == NULL ? NULL : PyLong_FromSsize_t(slot - self->pages.slots);
}

PyDoc_STRVAR(free_doc, "free(page, /)\n--\n\nThe page's slot may be another's.");

static PyObject *pages_free(PagesObject *self, PyObject *number)
{
    fr_slot *slot = slot_of(self, number);

    if (slot == NULL)
        return NULL;
    fr_pages_free(&self->pages, slot);
    Py_RETURN_NONE;
}

static PyMethodDef pages_methods[] = {
    {"add", (PyCFunction)pages_add, METH_O, add_doc},        {"claim", (PyCFunction)pages_claim, METH_VARARGS, claim_doc},
    {"put", (PyCFunction)pages_put, METH_VARARGS, put_doc},  {"fill", (PyCFunction)pages_fill, METH_VARARGS, fill_doc},
    {"slot", (PyCFunction)pages_slot, METH_O, slot_doc},     {"free", (PyCFunction)pages_free, METH_O, free_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pages_slots[] = {
    {Py_tp_doc, (void *)pages_doc},  {Py_tp_new, pages_new}, {Py_tp_dealloc, pages_dealloc},
    {Py_tp_methods, pages_methods},  {0, NULL},
};

static PyType_Spec pages_spec = {"strandline.engine.format._frames.Pages", sizeof(PagesObject), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, pages_slots};

/* -- the module ---------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(whole_doc, "zstd_is_whole(payload, plain, /)\n--\n\nIs it one whole zstd frame that says it has plain bytes, and nothing behind it?");

static PyObject *zstd_is_whole(PyObject *module, PyObject *args)
{
    Py_buffer payload;
    unsigned long long plain;
    int whole;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*K:zstd_is_whole", &payload, &plain))
        return NULL;
    whole = fr_zstd_is_whole(payload.buf, (size_t)payload.len, plain);
    PyBuffer_Release(&payload);
    return PyBool_FromLong(whole);
}

PyDoc_STRVAR(spans_doc, "spans(rows, /)\n--\n\n(u64 offset, u64 size of each stretch that is not a hole, where the stream ends).  Stored rows only: none of kind 3.");

static PyObject *spans(PyObject *module, PyObject *args)
{
    Py_buffer rows;
    PyObject *result = NULL;
    uint64_t at = 0, start = 0, plain = 0, *found = NULL;
    size_t place = 0, count = 0, room = 0;
    fr_status status = FR_OK;
    int kind = 2, end = 0;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*:spans", &rows))
        return NULL;
    while (status == FR_OK && !end) {
        end = place == (size_t)rows.len;
        if (!end)
            status = fr_next_row(rows.buf, (size_t)rows.len, &place, &kind, &plain);
        if (status == FR_OK && !end && kind == 3)
            status = FR_BAD_ROW;
        if (status == FR_OK && !end && plain > INT64_MAX - at)
            status = FR_OTHER_SIZE;
        if (status != FR_OK)
            break;
        if ((end || kind == 2) && at > start) {
            if (count == room) {
                const size_t more = 2 * room + 64;
                uint64_t *larger = PyMem_RawRealloc(found, 2 * more * sizeof *found);

                if (larger == NULL) {
                    status = FR_NO_MEMORY;
                    break;
                }
                found = larger;
                room = more;
            }
            found[2 * count] = start;
            found[2 * count++ + 1] = at - start;
        }
        if (!end)
            at += plain;
        if (kind == 2)
            start = at;
    }
    if (status == FR_OK)
        result = Py_BuildValue("(y#K)", count ? (const char *)found : "", (Py_ssize_t)(2 * count * sizeof *found), (unsigned long long)at);
    else
        failed(status);
    PyMem_RawFree(found);
    PyBuffer_Release(&rows);
    return result;
}

static PyMethodDef methods[] = {
    {"spans", spans, METH_VARARGS, spans_doc},
    {"zstd_is_whole", zstd_is_whole, METH_VARARGS, whole_doc},
    {NULL, NULL, 0, NULL},
};

static int add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int bad = type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0;

    Py_XDECREF(type);
    return bad ? -1 : 0;
}

static int execute(PyObject *module)
{
    return add_type(module, &window_spec) < 0 || add_type(module, &pages_spec) < 0 ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_frames",
    .m_doc = "Finding and placing frames.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__frames(void)
{
    return PyModuleDef_Init(&definition);
}
