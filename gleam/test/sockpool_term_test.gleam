import sockpool/term.{type Mismatch, type Term, Mismatch}
import sockpool_kit as kit

@external(erlang, "sockpool_gleam_test_ffi", "term")
fn erlang(text: String) -> Term

fn refused(result: Result(a, Mismatch)) -> String {
  let assert Error(Mismatch(expected, _)) = result
  expected
}

pub fn values_test() {
  kit.equal(Ok(7), term.as_int(term.from(7)))
  kit.equal(Ok(1.5), term.as_float(term.from(1.5)))
  kit.equal(Ok(True), term.as_bool(term.from(True)))
  kit.equal(Ok("grün"), term.as_string(term.from("grün")))
  kit.equal(Ok(<<1, 2:3>>), term.as_bit_array(term.from(<<1, 2:3>>)))
  kit.equal(Ok("café"), term.as_atom(term.atom("café")))
  kit.equal(term.from(Nil), term.atom("nil"))
  kit.equal(Ok([1, 2]), term.as_list(term.from([1, 2]), term.as_int))
  kit.equal(Ok([]), term.as_list(term.from([]), term.as_int))
  kit.equal(Ok(2), term.element(term.from(#("one", 2)), 1, term.as_int))
  let table = erlang("[{a, [1, 2]}, {b, []}]")
  let row = fn(pair) { term.element(pair, 1, term.as_list(_, term.as_int)) }
  kit.equal(Ok([[1, 2], []]), term.as_list(table, row))
}

pub fn mismatches_test() {
  kit.equal(
    Error(Mismatch("an integer", "{odd,[1]}")),
    term.as_int(erlang("{odd, [1]}")),
  )
  kit.equal("a float", refused(term.as_float(term.from(1))))
  kit.equal("true or false", refused(term.as_bool(erlang("maybe_so"))))
  kit.equal("a binary of UTF-8", refused(term.as_string(erlang("\"text\""))))
  kit.equal("a binary of UTF-8", refused(term.as_string(term.from(<<255>>))))
  kit.equal("a binary of UTF-8", refused(term.as_string(term.from(<<1:3>>))))
  kit.equal("a bit string", refused(term.as_bit_array(term.from(1))))
  kit.equal("an atom", refused(term.as_atom(term.from("text"))))
  kit.equal("a list", refused(term.as_list(term.from(1), term.as_int)))
  kit.equal(
    "the end of a list",
    refused(term.as_list(erlang("[1 | 2]"), term.as_int)),
  )
  kit.equal(
    "an integer",
    refused(term.as_list(erlang("[1, a, b]"), term.as_int)),
  )
  let pair = term.from(#(1, 2))
  kit.equal(
    "a tuple with an element 2",
    refused(term.element(pair, 2, term.as_int)),
  )
  kit.equal(
    "a tuple with an element -1",
    refused(term.element(pair, -1, term.as_int)),
  )
  kit.equal("an atom", refused(term.element(pair, 0, term.as_atom)))
}
