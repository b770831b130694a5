%%% @private
%%% Terms as JSON: OTP has that from 27 on only. What is written may stand in a page: there is no character in it that HTML
%%% or JavaScript would take for its own.
-module(sockpool_json).

-export([encode/1, text/1]).
-export_type([json/0]).

-type json() :: null | boolean() | number() | atom() | unicode:chardata()
              | {text, unicode:chardata()} | {raw, iodata()} | {list, [json()]} | #{atom() | binary() => json()}.
%% A list is an array only as `{list, _}': others are text. `undefined' is null, other atoms are text. `raw' is JSON already.

-spec encode(json()) -> iodata().
encode(undefined) -> <<"null">>;
encode(null) -> <<"null">>;
encode(true) -> <<"true">>;
encode(false) -> <<"false">>;
encode(Atom) when is_atom(Atom) -> quoted(atom_to_binary(Atom, utf8));
encode(Number) when is_integer(Number) -> integer_to_binary(Number);
encode(Number) when is_float(Number) -> float_to_binary(Number, [{decimals, 4}, compact]);
encode({raw, Data}) -> Data;
encode({list, []}) -> <<"[]">>;
encode({list, [First | Rest]}) -> [$[, encode(First), [[$,, encode(One)] || One <- Rest], $]];
encode({text, Text}) -> quoted(text(Text));
encode(Map) when is_map(Map) -> object(maps:to_list(Map));
encode(Text) -> quoted(text(Text)).

object([]) -> <<"{}">>;
object([First | Rest]) -> [${, member(First), [[$,, member(One)] || One <- Rest], $}].

member({Key, Value}) when is_atom(Key) -> [$", atom_to_binary(Key, utf8), $", $:, encode(Value)];
member({Key, Value}) -> [encode(Key), $:, encode(Value)].

%% @doc Bytes that are no UTF-8 are taken for Latin-1.
-spec text(unicode:chardata()) -> binary().
text(Text) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> unicode:characters_to_binary(iolist_to_binary(Text), latin1)
    catch
        error:_ -> unicode:characters_to_binary(io_lib:format("~0tP", [Text, 20]))
    end.

quoted(Binary) ->
    case plain(Binary) of
        true -> [$", Binary, $"];
        false -> [$", << <<(escaped(Char))/binary>> || <<Char/utf8>> <= Binary >>, $"]
    end.

plain(<<Byte, Rest/binary>>)
  when Byte >= 32, Byte < 127, Byte =/= $", Byte =/= $\\, Byte =/= $<, Byte =/= $>, Byte =/= $&, Byte =/= $' -> plain(Rest);
plain(Rest) -> Rest =:= <<>>.

escaped($") -> <<"\\\"">>;
escaped($\\) -> <<"\\\\">>;
escaped($\n) -> <<"\\n">>;
escaped(Char) when Char < 32; Char >= 127, Char < 160; Char =:= $<; Char =:= $>; Char =:= $&; Char =:= $'; Char =:= 16#2028;
                   Char =:= 16#2029; Char >= 16#202A, Char =< 16#202E; Char >= 16#2066, Char =< 16#2069 ->
    iolist_to_binary(io_lib:format("\\u~4.16.0b", [Char]));
escaped(Char) -> <<Char/utf8>>.
