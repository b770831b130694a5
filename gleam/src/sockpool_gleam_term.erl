%%% Behind the Gleam module sockpool/term.
-module(sockpool_gleam_term).

-export([identity/1, atom/1, int/1, float/1, bool/1, string/1, bits/1, atom_name/1, list/2, element/3]).

-type decoded(A) :: {ok, A} | {error, {mismatch, Expected :: binary(), Found :: binary()}}.

-spec identity(A) -> A.
identity(Term) -> Term.

-spec atom(binary()) -> atom().
atom(Name) -> binary_to_atom(Name).

-spec int(term()) -> decoded(integer()).
int(Term) when is_integer(Term) -> {ok, Term};
int(Term) -> mismatch(<<"an integer">>, Term).

-spec float(term()) -> decoded(float()).
float(Term) when is_float(Term) -> {ok, Term};
float(Term) -> mismatch(<<"a float">>, Term).

-spec bool(term()) -> decoded(boolean()).
bool(Term) when is_boolean(Term) -> {ok, Term};
bool(Term) -> mismatch(<<"true or false">>, Term).

-spec string(term()) -> decoded(binary()).
string(Term) when is_binary(Term) ->
    case unicode:characters_to_binary(Term) of
        Term -> {ok, Term};
        _NotUtf8 -> mismatch(<<"a binary of UTF-8">>, Term)
    end;
string(Term) ->
    mismatch(<<"a binary of UTF-8">>, Term).

-spec bits(term()) -> decoded(bitstring()).
bits(Term) when is_bitstring(Term) -> {ok, Term};
bits(Term) -> mismatch(<<"a bit string">>, Term).

-spec atom_name(term()) -> decoded(binary()).
atom_name(Term) when is_atom(Term) -> {ok, atom_to_binary(Term)};
atom_name(Term) -> mismatch(<<"an atom">>, Term).

-spec list(term(), fun((term()) -> decoded(A))) -> decoded([A]).
list(Term, Decode) when is_list(Term) -> each(Term, Decode, []);
list(Term, _Decode) -> mismatch(<<"a list">>, Term).

each([], _Decode, Done) ->
    {ok, lists:reverse(Done)};
each([Term | Rest], Decode, Done) ->
    case Decode(Term) of
        {ok, Value} -> each(Rest, Decode, [Value | Done]);
        {error, _} = Error -> Error
    end;
each(Tail, _Decode, _Done) ->
    mismatch(<<"the end of a list">>, Tail).

-spec element(term(), integer(), fun((term()) -> decoded(A))) -> decoded(A).
element(Term, Index, Decode) when is_tuple(Term), Index >= 0, Index < tuple_size(Term) ->
    Decode(erlang:element(Index + 1, Term));
element(Term, Index, _Decode) ->
    mismatch(<<"a tuple with an element ", (integer_to_binary(Index))/binary>>, Term).

mismatch(Expected, Found) ->
    {error, {mismatch, Expected, unicode:characters_to_binary(io_lib:format("~0tP", [Found, 20]))}}.
