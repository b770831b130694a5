%%% Reads JSON, strictly, for tests: OTP has that from 27 on only.
-module(sockpool_json_reader).

-export([decode/1]).

-spec decode(binary()) -> term().
decode(Text) ->
    {Value, Rest} = value(space(Text)),
    <<>> = space(Rest),
    Value.

space(<<Char, Rest/binary>>) when Char =:= $\s; Char =:= $\n; Char =:= $\r; Char =:= $\t -> space(Rest);
space(Rest) -> Rest.

value(<<"null", Rest/binary>>) -> {null, Rest};
value(<<"true", Rest/binary>>) -> {true, Rest};
value(<<"false", Rest/binary>>) -> {false, Rest};
value(<<$", Rest/binary>>) -> string(Rest, <<>>);
value(<<$[, Rest/binary>>) -> array(space(Rest), []);
value(<<${, Rest/binary>>) -> object(space(Rest), #{});
value(Text) ->
    {match, [Number]} = re:run(Text, "^-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?", [{capture, first, binary}]),
    Rest = binary:part(Text, byte_size(Number), byte_size(Text) - byte_size(Number)),
    try {binary_to_integer(Number), Rest} catch error:badarg -> {binary_to_float(Number), Rest} end.

array(<<$], Rest/binary>>, []) -> {[], Rest};
array(Text, Before) ->
    {Value, Rest} = value(Text),
    case space(Rest) of
        <<$,, More/binary>> -> array(space(More), [Value | Before]);
        <<$], More/binary>> -> {lists:reverse([Value | Before]), More}
    end.

object(<<$}, Rest/binary>>, Map) when map_size(Map) =:= 0 -> {Map, Rest};
object(<<$", Text/binary>>, Map) ->
    {Key, Rest} = string(Text, <<>>),
    <<$:, After/binary>> = space(Rest),
    {Value, Left} = value(space(After)),
    false = is_map_key(Key, Map),
    case space(Left) of
        <<$,, More/binary>> -> object(space(More), Map#{Key => Value});
        <<$}, More/binary>> -> {Map#{Key => Value}, More}
    end.

string(<<$", Rest/binary>>, Before) -> {Before, Rest};
string(<<$\\, $u, Hex:4/binary, Rest/binary>>, Before) -> string(Rest, <<Before/binary, (binary_to_integer(Hex, 16))/utf8>>);
string(<<$\\, $n, Rest/binary>>, Before) -> string(Rest, <<Before/binary, $\n>>);
string(<<$\\, Char, Rest/binary>>, Before) when Char =:= $"; Char =:= $\\; Char =:= $/ -> string(Rest, <<Before/binary, Char>>);
string(<<Char/utf8, Rest/binary>>, Before) when Char >= 32, Char =/= $\\ -> string(Rest, <<Before/binary, Char/utf8>>).
