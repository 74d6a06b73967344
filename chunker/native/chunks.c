/* The door to Python for what is done to the chunks of a whole buffer at once: naming them, and finding them among those known.
 * Naming lets go of the GIL; the rest takes microseconds for a buffer, and keeps it, which makes the tables safe. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "blake3.h"
#include "idset.h"

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
    Py_BEGIN_ALLOW_THREADS
    sl_name(kernel, words, data->buf, end, count, (uint8_t *)PyBytes_AS_STRING(ids), scratch);
    Py_END_ALLOW_THREADS
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

/* -- the filter ---------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD id_filter filter;
} FilterObject;

PyDoc_STRVAR(filter_doc, "IdFilter(size, /)\n--\n\nA set of ids that errs on one side, in size bytes (rounded down to a power of two, at least 32).");

static PyObject *filter_new(PyTypeObject *type, PyObject *args, PyObject *words)
{
    static char *names[] = {"", NULL};
    Py_ssize_t size;
    size_t count = 1;
    FilterObject *self;

    if (!PyArg_ParseTupleAndKeywords(args, words, "n:IdFilter", names, &size))
        return NULL;
    if (size < 32) {
        PyErr_SetString(PyExc_ValueError, "a filter has 32 bytes at least");
        return NULL;
    }
    while (2 * count * 32 <= (size_t)size)
        count *= 2;
    self = (FilterObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->filter.count = count;
    self->filter.blocks = PyMem_RawCalloc(count, 32);
    if (self->filter.blocks == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void filter_dealloc(FilterObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyMem_RawFree(self->filter.blocks);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(filter_add_doc, "add(ids, /)\n--\n\nEnter ids.");

static PyObject *filter_add(FilterObject *self, PyObject *args)
{
    Py_buffer ids;
    Py_ssize_t i;
    int failed;

    if (!PyArg_ParseTuple(args, "y*:add", &ids))
        return NULL;
    failed = check_range(&ids, 0, 0) < 0;
    for (i = 0; !failed && i < ids.len / ID; i++)
        id_filter_add(&self->filter, id_at(&ids, i));
    PyBuffer_Release(&ids);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(filter_next_doc, "next(ids, first, stop, /)\n--\n\nThe place of the first id from place first to stop that may have been entered, or is zero; else stop.");

static PyObject *filter_next(FilterObject *self, PyObject *args)
{
    Py_buffer ids;
    Py_ssize_t first, stop;
    int failed;

    if (!PyArg_ParseTuple(args, "y*nn:next", &ids, &first, &stop))
        return NULL;
    failed = check_range(&ids, first, stop) < 0;
    for (; !failed && first < stop; first++)
        if (id_is_zero(id_at(&ids, first)) || id_filter_may_have(&self->filter, id_at(&ids, first)))
            break;
    PyBuffer_Release(&ids);
    return failed ? NULL : PyLong_FromSsize_t(first);
}

static PyMethodDef filter_methods[] = {
    {"add", (PyCFunction)filter_add, METH_VARARGS, filter_add_doc},
    {"next", (PyCFunction)filter_next, METH_VARARGS, filter_next_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot filter_slots[] = {
    {Py_tp_doc, (void *)filter_doc},
    {Py_tp_new, filter_new},
    {Py_tp_dealloc, filter_dealloc},
    {Py_tp_methods, filter_methods},
    {0, NULL},
};

static PyType_Spec filter_spec = {"strandline.chunker._chunks.IdFilter", sizeof(FilterObject), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, filter_slots};

/* -- the module ---------------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"kernels", kernels, METH_NOARGS, kernels_doc}, {"name", name, METH_VARARGS, name_doc},
    {"common", common, METH_VARARGS, common_doc},   {"find", find, METH_VARARGS, find_doc},
    {"zeros", zeros, METH_VARARGS, zeros_doc},      {NULL, NULL, 0, NULL},
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
    return add_type(module, &map_spec) < 0 || add_type(module, &filter_spec) < 0 ? -1 : 0;
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
