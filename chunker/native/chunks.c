/* The door to Python for what is done to the chunks of a whole buffer at once: naming them, and finding them among those known.
 * Naming lets go of the GIL; the rest takes microseconds for a buffer, and keeps it, which makes the tables safe. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "blake3.h"
#include "idruns.h"
#include "idset.h"

enum { BUCKETS = 256 };

/* Bytes from which on naming lets go of the GIL: for less it takes longer to get it back from others than to name. */
enum { LET_GO = 128 << 10 };

static int usable(const b3_kernel *kernel)
{
    return kernel->usable == NULL || kernel->usable();
}

PyDoc_STRVAR(kernels_doc, "kernels()\n--\n\nThe names of the naming kernels that run on this machine, slowest first.");

static PyObject *kernels(PyObject *module, PyObject *ignored)
{
    const b3_kernel *const *kernel;
    PyObject *names = PyList_New(0), *result;

    (void)module;
    (void)ignored;
    if (names == NULL)
        return NULL;
    for (kernel = b3_kernels; *kernel != NULL; kernel++) {
        PyObject *name;
        int failed;

        if (!usable(*kernel))
            continue;
        name = PyUnicode_FromString((*kernel)->name);
        failed = name == NULL || PyList_Append(names, name) < 0;
        Py_XDECREF(name);
        if (failed) {
            Py_DECREF(names);
            return NULL;
        }
    }
    result = PyList_AsTuple(names);
    Py_DECREF(names);
    return result;
}

/* Check what has come in, and name; the ids as bytes, or NULL with an exception set. */
static PyObject *name_buffers(const b3_kernel *kernel, const Py_buffer *key, const Py_buffer *data, const Py_buffer *ends)
{
    const uint64_t *end = ends->buf;
    const size_t count = (size_t)ends->len / sizeof(uint64_t);
    uint32_t words[8];
    uint64_t start = 0, longest = 0;
    PyObject *ids;
    void *scratch;
    size_t i;

    if (key->len != sizeof words) {
        PyErr_SetString(PyExc_ValueError, "a key has 32 bytes");
        return NULL;
    }
    if (ends->itemsize != sizeof(uint64_t)) {
        PyErr_SetString(PyExc_ValueError, "ends are items of 8 bytes");
        return NULL;
    }
    for (i = 0; i < count; i++) {
        if (end[i] < start || end[i] > (uint64_t)data->len) {
            PyErr_SetString(PyExc_ValueError, "the ends descend, or lie beyond the data");
            return NULL;
        }
        if (end[i] - start > longest)
            longest = end[i] - start;
        start = end[i];
    }
    memcpy(words, key->buf, sizeof words); /* kernels are for little-endian machines only */
    ids = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * SL_ID));
    scratch = PyMem_RawMalloc(sl_name_scratch((size_t)longest));
    if (ids == NULL || scratch == NULL) {
        Py_XDECREF(ids);
        PyMem_RawFree(scratch);
        return PyErr_NoMemory();
    }
    if (start < LET_GO) {
        sl_name(kernel, words, data->buf, end, count, (uint8_t *)PyBytes_AS_STRING(ids), scratch);
    } else {
        Py_BEGIN_ALLOW_THREADS
        sl_name(kernel, words, data->buf, end, count, (uint8_t *)PyBytes_AS_STRING(ids), scratch);
        Py_END_ALLOW_THREADS
    }
    PyMem_RawFree(scratch);
    return ids;
}

PyDoc_STRVAR(name_doc, "name(kernel, key, data, ends, /)\n--\n\nThe ids of the chunks of data, 16 bytes each; chunk i ends at ends[i].\n"
                       "A chunk of zeros has an id of zeros.  blake3.h says the rest.");

static PyObject *name(PyObject *module, PyObject *args)
{
    const b3_kernel *const *kernel;
    const char *wish;
    Py_buffer key, data, ends;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(args, "sy*y*y*:name", &wish, &key, &data, &ends))
        return NULL;
    for (kernel = b3_kernels; *kernel != NULL; kernel++)
        if (strcmp((*kernel)->name, wish) == 0 && usable(*kernel))
            break;
    if (*kernel == NULL)
        PyErr_Format(PyExc_ValueError, "no kernel named '%s' on this machine", wish);
    else
        result = name_buffers(*kernel, &key, &data, &ends);
    PyBuffer_Release(&key);
    PyBuffer_Release(&data);
    PyBuffer_Release(&ends);
    return result;
}

/* Name the chunks first to first + count of data for each pick (first, count, slot), into ids from slot on; what there is was checked.
 * Those of several picks are put side by side first: so all lanes are full, however few of the chunks are wanted. */
static int name_picks(const b3_kernel *kernel, const uint32_t words[8], const uint8_t *data, const uint64_t *end, const uint64_t *picks,
                      size_t count, uint64_t longest, uint64_t wanted, size_t chunks, uint8_t *ids)
{
    uint8_t *gathered = PyMem_RawMalloc(count > 1 ? (size_t)wanted : 1);
    uint64_t *ends = PyMem_RawMalloc(chunks * sizeof *ends), size = 0;
    uint8_t *names = PyMem_RawMalloc(chunks * SL_ID);
    void *scratch = PyMem_RawMalloc(sl_name_scratch((size_t)longest));
    const int enough = gathered != NULL && ends != NULL && names != NULL && scratch != NULL;
    size_t i, k, at = 0;

    for (i = 0; enough && i < count; i++) {
        const size_t first = (size_t)picks[3 * i], stop = first + (size_t)picks[3 * i + 1];
        const uint64_t start = first > 0 ? end[first - 1] : 0, before = size;

        if (count > 1)
            memcpy(gathered + size, data + start, (size_t)(end[stop - 1] - start));
        else
            data += start;
        for (k = first; k < stop; k++)
            ends[at++] = size = before + end[k] - start;
    }
    if (enough)
        sl_name(kernel, words, count > 1 ? gathered : data, ends, chunks, names, scratch);
    for (i = 0, at = 0; enough && i < count; at += (size_t)picks[3 * i + 1], i++)
        memcpy(ids + SL_ID * picks[3 * i + 2], names + SL_ID * at, SL_ID * (size_t)picks[3 * i + 1]);
    PyMem_RawFree(gathered);
    PyMem_RawFree(ends);
    PyMem_RawFree(names);
    PyMem_RawFree(scratch);
    return enough;
}

/* Where each chunk ends, by their sizes; NULL with an exception set if they are more than the data. */
static uint64_t *ends_of(const Py_buffer *sizes, const Py_buffer *data, uint64_t *longest)
{
    const size_t chunks = (size_t)sizes->len / 4;
    const uint8_t *size = sizes->buf;
    uint64_t *end = PyMem_RawMalloc(chunks * sizeof *end + 1), at = 0;
    size_t i;

    if (end == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (i = 0; i < chunks; i++, size += 4) {
        const uint32_t one = (uint32_t)size[3] << 24 | (uint32_t)size[2] << 16 | (uint32_t)size[1] << 8 | size[0];

        if (one > *longest)
            *longest = one;
        end[i] = at += one;
    }
    if (at <= (uint64_t)data->len)
        return end;
    PyErr_SetString(PyExc_ValueError, "chunks beyond the data");
    PyMem_RawFree(end);
    return NULL;
}

PyDoc_STRVAR(name_some_doc, "name_some(kernel, key, data, sizes, picks, ids, /)\n--\n\nName some of the chunks of data, whose sizes are u32: for each pick, three u64\n"
                            "(first, count, slot), chunks first to first + count into ids, from number slot on.");

static PyObject *name_some(PyObject *module, PyObject *args)
{
    const b3_kernel *const *kernel;
    const char *wish;
    Py_buffer key, data, sizes, picks, ids;
    uint64_t *end = NULL, longest = 0, wanted = 0;
    const uint64_t *pick;
    uint32_t words[8];
    size_t chunks, count, i, named = 0;
    int enough = 1, good = 0;

    (void)module;
    if (!PyArg_ParseTuple(args, "sy*y*y*y*w*:name_some", &wish, &key, &data, &sizes, &picks, &ids))
        return NULL;
    for (kernel = b3_kernels; *kernel != NULL; kernel++)
        if (strcmp((*kernel)->name, wish) == 0 && usable(*kernel))
            break;
    if (*kernel == NULL || key.len != sizeof words) {
        PyErr_SetString(PyExc_ValueError, *kernel == NULL ? "no such kernel on this machine" : "a key has 32 bytes");
        goto done;
    }
    memcpy(words, key.buf, sizeof words);
    end = ends_of(&sizes, &data, &longest);
    if (end == NULL)
        goto done;
    chunks = (size_t)sizes.len / 4;
    count = (size_t)picks.len / 24;
    pick = picks.buf;
    for (i = 0; i < count; i++, pick += 3) {
        const uint64_t room = (uint64_t)ids.len / SL_ID;

        if (pick[1] == 0 || pick[0] >= chunks || pick[1] > chunks - pick[0] || pick[2] > room || pick[1] > room - pick[2]) {
            PyErr_SetString(PyExc_ValueError, "chunks that are not there, or ids without room");
            goto done;
        }
        named += (size_t)pick[1];
        wanted += end[pick[0] + pick[1] - 1] - (pick[0] > 0 ? end[pick[0] - 1] : 0);
    }
    good = 1;
    if (count > 0 && wanted < LET_GO) {
        enough = name_picks(*kernel, words, data.buf, end, picks.buf, count, longest, wanted, named, ids.buf);
    } else if (count > 0) {
        Py_BEGIN_ALLOW_THREADS
        enough = name_picks(*kernel, words, data.buf, end, picks.buf, count, longest, wanted, named, ids.buf);
        Py_END_ALLOW_THREADS
    }
    if (!enough)
        PyErr_NoMemory();
done:
    PyMem_RawFree(end);
    PyBuffer_Release(&key);
    PyBuffer_Release(&data);
    PyBuffer_Release(&sizes);
    PyBuffer_Release(&picks);
    PyBuffer_Release(&ids);
    if (!good || !enough)
        return NULL;
    Py_RETURN_NONE;
}

/* Are *ids* ids, and first <= stop <= their number? */
static int check_range(const Py_buffer *ids, Py_ssize_t first, Py_ssize_t stop)
{
    if (ids->len % ID == 0 && first >= 0 && first <= stop && stop <= ids->len / ID)
        return 0;
    PyErr_SetString(PyExc_ValueError, "not ids, or a range beyond them");
    return -1;
}

static const uint8_t *id_at(const Py_buffer *ids, Py_ssize_t number)
{
    return (const uint8_t *)ids->buf + ID * number;
}

PyDoc_STRVAR(common_doc, "common(ids, first, others, other, /)\n--\n\nHow many of ids, from number first on, equal those of others from number other on.");

static PyObject *common(PyObject *module, PyObject *args)
{
    Py_buffer ids, others;
    Py_ssize_t first, other, count = -1;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*ny*n:common", &ids, &first, &others, &other))
        return NULL;
    if (check_range(&ids, first, ids.len / ID) == 0 && check_range(&others, other, others.len / ID) == 0) {
        const Py_ssize_t left = ids.len / ID - first, there = others.len / ID - other;
        const Py_ssize_t most = left < there ? left : there;

        for (count = 0; count < most; count++)
            if (memcmp(id_at(&ids, first + count), id_at(&others, other + count), ID) != 0)
                break;
    }
    PyBuffer_Release(&ids);
    PyBuffer_Release(&others);
    return count < 0 ? NULL : PyLong_FromSsize_t(count);
}

PyDoc_STRVAR(find_doc, "find(ids, id, first, stop, /)\n--\n\nThe number of id (16 bytes) among ids first to stop; -1 if it is not there.");

static PyObject *find(PyObject *module, PyObject *args)
{
    Py_buffer ids, id;
    Py_ssize_t first, stop, found = -1, i;
    int failed;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*nn:find", &ids, &id, &first, &stop))
        return NULL;
    failed = check_range(&ids, first, stop) < 0 || check_range(&id, 0, 1) < 0;
    for (i = first; !failed && i < stop; i++)
        if (memcmp(id_at(&ids, i), id.buf, ID) == 0) {
            found = i;
            break;
        }
    PyBuffer_Release(&ids);
    PyBuffer_Release(&id);
    return failed ? NULL : PyLong_FromSsize_t(found);
}

PyDoc_STRVAR(zeros_doc, "zeros(ids, first, /)\n--\n\nHow many of ids, from number first on, are zero: chunks of a hole.");

static PyObject *zeros(PyObject *module, PyObject *args)
{
    Py_buffer ids;
    Py_ssize_t first, count = -1;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*n:zeros", &ids, &first))
        return NULL;
    if (check_range(&ids, first, ids.len / ID) == 0)
        for (count = 0; first + count < ids.len / ID; count++)
            if (!id_is_zero(id_at(&ids, first + count)))
                break;
    PyBuffer_Release(&ids);
    return count < 0 ? NULL : PyLong_FromSsize_t(count);
}

/* -- the map ------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD id_map map;
} MapObject;

PyDoc_STRVAR(map_doc, "IdMap()\n--\n\nIds (16 bytes) to numbers below 2**32: about 40 bytes for each, and no object.");

static PyObject *map_new(PyTypeObject *type, PyObject *args, PyObject *words)
{
    static char *none[] = {NULL};

    if (!PyArg_ParseTupleAndKeywords(args, words, ":IdMap", none))
        return NULL;
    return type->tp_alloc(type, 0); /* zeroed */
}

static void map_dealloc(MapObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    id_map_clear(&self->map);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(map_add_doc, "add(ids, first, stop, value, /)\n--\n\nEnter ids from place first to stop with the numbers value, value + 1, ..., up to the\n"
                          "first that was there already (or is zero); return its place, or stop.");

static PyObject *map_add(MapObject *self, PyObject *args)
{
    Py_buffer ids;
    Py_ssize_t first, stop, value;
    int added = 1, failed;

    if (!PyArg_ParseTuple(args, "y*nnn:add", &ids, &first, &stop, &value))
        return NULL;
    failed = check_range(&ids, first, stop) < 0;
    if (!failed && (value < 0 || (uint64_t)value + (uint64_t)(stop - first) > UINT32_MAX)) {
        PyErr_SetString(PyExc_ValueError, "numbers beyond 32 bits");
        failed = 1;
    }
    while (!failed && first < stop && (added = id_map_add(&self->map, id_at(&ids, first), (uint32_t)value)) > 0) {
        first++;
        value++;
    }
    PyBuffer_Release(&ids);
    if (failed)
        return NULL;
    return added < 0 ? PyErr_NoMemory() : PyLong_FromSsize_t(first);
}

PyDoc_STRVAR(map_next_doc, "next(ids, first, stop, /)\n--\n\n(place, number) of the first id from place first to stop that is in the map; None if none is.");

static PyObject *map_next(MapObject *self, PyObject *args)
{
    Py_buffer ids;
    Py_ssize_t first, stop;
    const uint32_t *value = NULL;
    int failed;

    if (!PyArg_ParseTuple(args, "y*nn:next", &ids, &first, &stop))
        return NULL;
    failed = check_range(&ids, first, stop) < 0;
    for (; !failed && first < stop; first++)
        if ((value = id_map_get(&self->map, id_at(&ids, first))) != NULL)
            break;
    PyBuffer_Release(&ids);
    if (failed)
        return NULL;
    if (value == NULL)
        Py_RETURN_NONE;
    return Py_BuildValue("(nk)", first, (unsigned long)*value);
}

PyDoc_STRVAR(map_clear_doc, "clear()\n--\n\nForget all ids, and give the memory back.");

static PyObject *map_clear(MapObject *self, PyObject *ignored)
{
    (void)ignored;
    id_map_clear(&self->map);
    Py_RETURN_NONE;
}

static Py_ssize_t map_len(MapObject *self)
{
    return (Py_ssize_t)self->map.used;
}

static PyMethodDef map_methods[] = {
    {"add", (PyCFunction)map_add, METH_VARARGS, map_add_doc},
    {"next", (PyCFunction)map_next, METH_VARARGS, map_next_doc},
    {"clear", (PyCFunction)map_clear, METH_NOARGS, map_clear_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot map_slots[] = {
    {Py_tp_doc, (void *)map_doc},     {Py_tp_new, map_new},          {Py_tp_dealloc, map_dealloc},
    {Py_tp_methods, map_methods},     {Py_mp_length, map_len},       {0, NULL},
};

static PyType_Spec map_spec = {"strandline.chunker._chunks.IdMap", sizeof(MapObject), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, map_slots};

/* -- runs ---------------------------------------------------------------------------------------------------------- */

/* A run as it is stored: ids, then places. */
static int run_of(id_run *run, const Py_buffer *stored)
{
    if (stored->len % RUN_ROW != 0 || (uint64_t)(stored->len / RUN_ROW) > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "not a run");
        return -1;
    }
    run->count = (size_t)stored->len / RUN_ROW;
    run->ids = stored->buf;
    run->places = run->ids + RUN_ID * run->count;
    return 0;
}

PyDoc_STRVAR(sort_doc, "sort_runs(ids, places, /)\n--\n\nRuns, one for each first byte of an id, of the chunks with these ids and places (8 bytes each).\n"
                       "A run is bytes: its ids in order, then their places.  Of equal ids the one with the largest place stays.");

static PyObject *sort_runs(PyObject *module, PyObject *args)
{
    Py_buffer ids, places;
    PyObject *runs = NULL;
    uint8_t *rows = NULL;
    size_t count, i;
    int bucket;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*:sort_runs", &ids, &places))
        return NULL;
    count = (size_t)ids.len / RUN_ID;
    if (ids.len % RUN_ID != 0 || (size_t)places.len != RUN_PLACE * count) {
        PyErr_SetString(PyExc_ValueError, "not ids, or not a place for each");
        goto done;
    }
    rows = PyMem_RawMalloc(RUN_ROW * count + 1);
    if (rows == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    for (i = 0; i < count; i++) {
        memcpy(rows + RUN_ROW * i, (const uint8_t *)ids.buf + RUN_ID * i, RUN_ID);
        memcpy(rows + RUN_ROW * i + RUN_ID, (const uint8_t *)places.buf + RUN_PLACE * i, RUN_PLACE);
    }
    count = id_rows_sort(rows, count);
    Py_END_ALLOW_THREADS
    runs = PyList_New(BUCKETS);
    for (bucket = 0, i = 0; runs != NULL && bucket < BUCKETS; bucket++) {
        const size_t first = i;
        PyObject *run;
        uint8_t *at;

        while (i < count && rows[RUN_ROW * i] == bucket)
            i++;
        run = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(RUN_ROW * (i - first)));
        if (run == NULL) {
            Py_CLEAR(runs);
            break;
        }
        at = (uint8_t *)PyBytes_AS_STRING(run);
        {
            size_t k;

            for (k = first; k < i; k++) {
                memcpy(at + RUN_ID * (k - first), rows + RUN_ROW * k, RUN_ID);
                memcpy(at + RUN_ID * (i - first) + RUN_PLACE * (k - first), rows + RUN_ROW * k + RUN_ID, RUN_PLACE);
            }
        }
        PyList_SET_ITEM(runs, bucket, run);
    }
done:
    PyMem_RawFree(rows);
    PyBuffer_Release(&ids);
    PyBuffer_Release(&places);
    return runs;
}

PyDoc_STRVAR(merge_doc, "merge_runs(older, newer, live, /)\n--\n\nOne run of two.  Of an id in both the newer one's place counts; rows whose pack has no live[pack]\n"
                        "other than zero are left out.");

static PyObject *merge_runs(PyObject *module, PyObject *args)
{
    Py_buffer one, two, live;
    id_run older, newer;
    PyObject *merged = NULL;
    uint8_t *places = NULL, *ids;
    size_t most, count;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*:merge_runs", &one, &two, &live))
        return NULL;
    if (run_of(&older, &one) < 0 || run_of(&newer, &two) < 0)
        goto done;
    most = older.count + newer.count;
    merged = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(RUN_ROW * most));
    places = PyMem_RawMalloc(RUN_PLACE * most + 1);
    if (merged == NULL || places == NULL) {
        Py_CLEAR(merged);
        PyErr_NoMemory();
        goto done;
    }
    ids = (uint8_t *)PyBytes_AS_STRING(merged);
    Py_BEGIN_ALLOW_THREADS
    count = id_runs_merge(&older, &newer, live.buf, (size_t)live.len, ids, places);
    memcpy(ids + RUN_ID * count, places, RUN_PLACE * count);
    Py_END_ALLOW_THREADS
    _PyBytes_Resize(&merged, (Py_ssize_t)(RUN_ROW * count));
done:
    PyMem_RawFree(places);
    PyBuffer_Release(&one);
    PyBuffer_Release(&two);
    PyBuffer_Release(&live);
    return merged;
}

typedef struct {
    PyObject_HEAD size_t count;
    size_t first[BUCKETS + 1]; /* of a bucket's runs among all */
    Py_buffer *held;
    id_run *runs;
} RunsObject;

PyDoc_STRVAR(runs_doc, "IdRuns(buckets, /)\n--\n\nMany runs to look ids up in: buckets has, for each first byte of an id, its runs, the newest first.\n"
                       "They are held, not copied.");

static void runs_dealloc(RunsObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    size_t i;

    for (i = 0; i < self->count; i++)
        PyBuffer_Release(&self->held[i]);
    PyMem_RawFree(self->held);
    PyMem_RawFree(self->runs);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Take in the runs of one bucket; -1 with an exception set. */
static int hold_runs(RunsObject *self, PyObject *bucket, size_t *room)
{
    PyObject *runs = PySequence_Fast(bucket, "a bucket is a sequence of runs");
    Py_ssize_t i;

    if (runs == NULL)
        return -1;
    for (i = 0; i < PySequence_Fast_GET_SIZE(runs); i++) {
        if (self->count == *room) {
            const size_t more = 2 * *room + BUCKETS;
            Py_buffer *held = PyMem_RawRealloc(self->held, more * sizeof *held);
            id_run *all;

            if (held != NULL)
                self->held = held;
            all = held == NULL ? NULL : PyMem_RawRealloc(self->runs, more * sizeof *all);
            if (all == NULL) {
                Py_DECREF(runs);
                PyErr_NoMemory();
                return -1;
            }
            self->runs = all;
            *room = more;
        }
        if (PyObject_GetBuffer(PySequence_Fast_GET_ITEM(runs, i), &self->held[self->count], PyBUF_SIMPLE) < 0) {
            Py_DECREF(runs);
            return -1;
        }
        if (run_of(&self->runs[self->count], &self->held[self->count]) < 0) {
            PyBuffer_Release(&self->held[self->count]);
            Py_DECREF(runs);
            return -1;
        }
        self->count++;
    }
    Py_DECREF(runs);
    return 0;
}

static PyObject *runs_new(PyTypeObject *type, PyObject *args, PyObject *words)
{
    static char *names[] = {"", NULL};
    PyObject *buckets, *all;
    RunsObject *self;
    size_t room = 0;
    Py_ssize_t i;

    if (!PyArg_ParseTupleAndKeywords(args, words, "O:IdRuns", names, &buckets))
        return NULL;
    all = PySequence_Fast(buckets, "a bucket for each first byte");
    if (all == NULL)
        return NULL;
    if (PySequence_Fast_GET_SIZE(all) != BUCKETS) {
        Py_DECREF(all);
        PyErr_SetString(PyExc_ValueError, "a bucket for each of 256 first bytes");
        return NULL;
    }
    self = (RunsObject *)type->tp_alloc(type, 0); /* zeroed */
    for (i = 0; self != NULL && i < BUCKETS; i++) {
        self->first[i] = self->count;
        if (hold_runs(self, PySequence_Fast_GET_ITEM(all, i), &room) < 0)
            Py_CLEAR(self);
    }
    Py_DECREF(all);
    if (self != NULL)
        self->first[BUCKETS] = self->count;
    return (PyObject *)self;
}

PyDoc_STRVAR(runs_next_doc, "next(ids, first, stop, /)\n--\n\n(place, pack, chunk) of the first id from place first to stop that is in a run, or is zero: then pack\n"
                            "and chunk are 0.  None if there is none.");

static PyObject *runs_next(RunsObject *self, PyObject *args)
{
    Py_buffer ids;
    Py_ssize_t first, stop;
    uint32_t pack = 0, chunk = 0;
    int failed;

    if (!PyArg_ParseTuple(args, "y*nn:next", &ids, &first, &stop))
        return NULL;
    failed = check_range(&ids, first, stop) < 0;
    if (!failed) {
        Py_BEGIN_ALLOW_THREADS
        for (; first < stop; first++) {
            const uint8_t *id = id_at(&ids, first), *place = NULL;
            size_t i;

            if (id_is_zero(id))
                break;
            for (i = self->first[id[0]]; place == NULL && i < self->first[id[0] + 1]; i++)
                place = id_run_find(&self->runs[i], id);
            if (place != NULL) {
                pack = (uint32_t)place[3] << 24 | (uint32_t)place[2] << 16 | (uint32_t)place[1] << 8 | place[0];
                chunk = (uint32_t)place[7] << 24 | (uint32_t)place[6] << 16 | (uint32_t)place[5] << 8 | place[4];
                break;
            }
        }
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&ids);
    if (failed)
        return NULL;
    if (first == stop)
        Py_RETURN_NONE;
    return Py_BuildValue("(nkk)", first, (unsigned long)pack, (unsigned long)chunk);
}

static PyMethodDef runs_methods[] = {
    {"next", (PyCFunction)runs_next, METH_VARARGS, runs_next_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot runs_slots[] = {
    {Py_tp_doc, (void *)runs_doc},
    {Py_tp_new, runs_new},
    {Py_tp_dealloc, runs_dealloc},
    {Py_tp_methods, runs_methods},
    {0, NULL},
};

static PyType_Spec runs_spec = {"strandline.chunker._chunks.IdRuns", sizeof(RunsObject), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, runs_slots};

/* -- the module ---------------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"kernels", kernels, METH_NOARGS, kernels_doc}, {"name", name, METH_VARARGS, name_doc},
    {"common", common, METH_VARARGS, common_doc},   {"find", find, METH_VARARGS, find_doc},
    {"zeros", zeros, METH_VARARGS, zeros_doc},      {"name_some", name_some, METH_VARARGS, name_some_doc},
    {"sort_runs", sort_runs, METH_VARARGS, sort_doc},  {"merge_runs", merge_runs, METH_VARARGS, merge_doc},
    {NULL, NULL, 0, NULL},
};

static int add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int failed = type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0;

    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static int execute(PyObject *module)
{
    return add_type(module, &map_spec) < 0 || add_type(module, &runs_spec) < 0 ? -1 : 0;
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
    .m_name = "_chunks",
    .m_doc = "The chunks of a whole buffer at once.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__chunks(void)
{
    return PyModuleDef_Init(&definition);
}
