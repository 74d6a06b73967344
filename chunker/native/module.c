/* The door to Python: unpack, drop the GIL, call, repack.  No state of its own, so that any number of
 * interpreters and threads may come in at once. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "scan.h"

static int usable(const sl_kernel *kernel)
{
    return kernel->usable == NULL || kernel->usable();
}

static const sl_kernel *find_kernel(const char *name)
{
    const sl_kernel *const *kernel;

    for (kernel = sl_kernels; *kernel != NULL; kernel++)
        if (strcmp((*kernel)->name, name) == 0 && usable(*kernel))
            return *kernel;
    PyErr_Format(PyExc_ValueError, "no kernel named '%s' on this machine", name);
    return NULL;
}

PyDoc_STRVAR(kernels_doc, "kernels()\n--\n\nThe names of the kernels that run on this machine, slowest first.");

static PyObject *kernels(PyObject *module, PyObject *ignored)
{
    const sl_kernel *const *kernel;
    PyObject *names = PyList_New(0), *result;

    (void)module;
    (void)ignored;
    if (names == NULL)
        return NULL;
    for (kernel = sl_kernels; *kernel != NULL; kernel++) {
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

/* Check what has come in, and cut; NULL with an exception set, or (count, next). */
static PyObject *cut_buffers(const sl_kernel *kernel, const Py_buffer *packed, const Py_buffer *data, Py_ssize_t next,
                             int final, const Py_buffer *ends)
{
    sl_rule rule;
    size_t count, examined = (size_t)next;

    if (packed->len != SL_RULE_SIZE || sl_rule_load(&rule, packed->buf) < 0) {
        PyErr_SetString(PyExc_ValueError, "not a rule");
        return NULL;
    }
    if (next < 0) {
        PyErr_SetString(PyExc_ValueError, "next is negative");
        return NULL;
    }
    if (ends->itemsize != sizeof(uint64_t) || (size_t)(ends->len / ends->itemsize) < (size_t)data->len / rule.min + 1) {
        PyErr_SetString(PyExc_ValueError, "no room for the ends: size / min + 1 items of 8 bytes");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    count = sl_cut(&rule, kernel->scan, data->buf, (size_t)data->len, final, &examined, ends->buf);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("(nn)", (Py_ssize_t)count, (Py_ssize_t)examined);
}

PyDoc_STRVAR(cut_doc, "cut(kernel, rule, data, next, final, ends, /)\n--\n\n"
                      "Write the ends of the chunks of data into ends; return how many there are, and the next offset\n"
                      "to examine.  scan.h says the rest.");

static PyObject *cut(PyObject *module, PyObject *args)
{
    const char *name;
    const sl_kernel *kernel;
    Py_buffer rule, data, ends;
    Py_ssize_t next;
    int final;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(args, "sy*y*npw*:cut", &name, &rule, &data, &next, &final, &ends))
        return NULL;
    kernel = find_kernel(name);
    if (kernel != NULL)
        result = cut_buffers(kernel, &rule, &data, next, final, &ends);
    PyBuffer_Release(&rule);
    PyBuffer_Release(&data);
    PyBuffer_Release(&ends);
    return result;
}

/* Check what has come in, and join; NULL with an exception set, or the count. */
static PyObject *join_buffers(const sl_kernel *kernel, const Py_buffer *packed, const Py_buffer *data, Py_ssize_t rest,
                              const Py_buffer *guess, int final, const Py_buffer *ends)
{
    const uint64_t *guessed = guess->buf;
    const size_t guesses = (size_t)guess->len / sizeof *guessed;
    sl_rule rule;
    size_t count, i;

    if (packed->len != SL_RULE_SIZE || sl_rule_load(&rule, packed->buf) < 0) {
        PyErr_SetString(PyExc_ValueError, "not a rule");
        return NULL;
    }
    if (rest < 0 || rest > data->len || guess->itemsize != sizeof *guessed) {
        PyErr_SetString(PyExc_ValueError, "more is left over than there is, or ends are not items of 8 bytes");
        return NULL;
    }
    for (i = 0; i < guesses; i++)
        if (guessed[i] > (uint64_t)(data->len - rest) || guessed[i] < (i ? guessed[i - 1] : 0) + rule.min) {
            PyErr_SetString(PyExc_ValueError, "these are not the ends of this block's chunks");
            return NULL;
        }
    if (ends->itemsize != sizeof(uint64_t) || (size_t)(ends->len / ends->itemsize) < (size_t)data->len / rule.min + 1) {
        PyErr_SetString(PyExc_ValueError, "no room for the ends: size / min + 1 items of 8 bytes");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    count = sl_join(&rule, kernel->scan, data->buf, (size_t)data->len, (size_t)rest, guessed, guesses, final, ends->buf);
    Py_END_ALLOW_THREADS
    return PyLong_FromSize_t(count);
}

PyDoc_STRVAR(join_doc, "join(kernel, rule, data, rest, guess, final, ends, /)\n--\n\n"
                       "Write the ends of the chunks of data into ends and return how many there are: data is rest bytes\n"
                       "left over and a block whose ends were guessed.  scan.h says the rest.");

static PyObject *join(PyObject *module, PyObject *args)
{
    const char *name;
    const sl_kernel *kernel;
    Py_buffer rule, data, guess, ends;
    Py_ssize_t rest;
    int final;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(args, "sy*y*ny*pw*:join", &name, &rule, &data, &rest, &guess, &final, &ends))
        return NULL;
    kernel = find_kernel(name);
    if (kernel != NULL)
        result = join_buffers(kernel, &rule, &data, rest, &guess, final, &ends);
    PyBuffer_Release(&rule);
    PyBuffer_Release(&data);
    PyBuffer_Release(&guess);
    PyBuffer_Release(&ends);
    return result;
}

static PyMethodDef methods[] = {
    {"kernels", kernels, METH_NOARGS, kernels_doc},
    {"cut", cut, METH_VARARGS, cut_doc},
    {"join", join, METH_VARARGS, join_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_scan",
    .m_doc = "Where RKC-1 cuts, fast.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__scan(void)
{
    return PyModuleDef_Init(&definition);
}
