//// Values whose type is not known here: arguments and results of functions on another node.
////
//// A `Term` is the same at run time as a `Dynamic` of the standard library. Where you have that, declare
//// `@external(erlang, "sockpool_gleam_term", "identity") fn dynamic(term: Term) -> Dynamic` and decode
//// with `gleam/dynamic/decode`.

/// Any Erlang term.
pub type Term

/// What a term was to be, and what it is, in Erlang's notation.
pub type Mismatch {
  Mismatch(expected: String, found: String)
}

/// A value of any type as a term.
@external(erlang, "sockpool_gleam_term", "identity")
pub fn from(value: a) -> Term

/// The atom of this name, of at most 255 characters. It is never freed: use a fixed set of names.
@external(erlang, "sockpool_gleam_term", "atom")
pub fn atom(name: String) -> Term

/// A whole number.
@external(erlang, "sockpool_gleam_term", "int")
pub fn as_int(term: Term) -> Result(Int, Mismatch)

/// A float; an integer is none.
@external(erlang, "sockpool_gleam_term", "float")
pub fn as_float(term: Term) -> Result(Float, Mismatch)

/// One of the atoms `true` and `false`.
@external(erlang, "sockpool_gleam_term", "bool")
pub fn as_bool(term: Term) -> Result(Bool, Mismatch)

/// A binary of UTF-8. What Erlang calls a string is a list: `as_list(term, as_int)`.
@external(erlang, "sockpool_gleam_term", "string")
pub fn as_string(term: Term) -> Result(String, Mismatch)

/// A bit string; so a binary too.
@external(erlang, "sockpool_gleam_term", "bits")
pub fn as_bit_array(term: Term) -> Result(BitArray, Mismatch)

/// The name of an atom.
@external(erlang, "sockpool_gleam_term", "atom_name")
pub fn as_atom(term: Term) -> Result(String, Mismatch)

/// Each element by `of`; the first mismatch is the result.
@external(erlang, "sockpool_gleam_term", "list")
pub fn as_list(
  term: Term,
  of: fn(Term) -> Result(a, Mismatch),
) -> Result(List(a), Mismatch)

/// The element of a tuple, counted from 0, by `of`.
@external(erlang, "sockpool_gleam_term", "element")
pub fn element(
  term: Term,
  index: Int,
  of: fn(Term) -> Result(a, Mismatch),
) -> Result(a, Mismatch)
