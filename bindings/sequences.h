// Lists and tuples, in words that Python's stable ABI has, too; without it they are CPython's macros.
#pragma once
#include <nanobind/nanobind.h>

namespace sequences {

// Of a list or a tuple, as PySequence_Fast returns one. Borrowed.
inline Py_ssize_t size(nanobind::handle sequence) { return Py_SIZE(sequence.ptr()); }
inline PyObject* item(nanobind::handle sequence, Py_ssize_t k) {
  return PyList_Check(sequence.ptr()) ? NB_LIST_GET_ITEM(sequence.ptr(), k) : NB_TUPLE_GET_ITEM(sequence.ptr(), k);
}

}  // namespace sequences
