%%% @private
%%% The state of a connection: a term of its users', which goes with it. C keeps a copy, of a bounded size.
-module(sockpool_state).

-export([set/2, get/1]).

%% Terms, and bytes of what is no list, tuple or map.
-define(MAX_PIECES, 65536).

-spec set(sockpool_nif:lease() | term(), term()) -> ok | not_a_conn | {error, term()}.
set(Conn, Term) ->
    case left(Term, ?MAX_PIECES) of
        Left when Left >= 0 -> sockpool_nif:set_state(Conn, Term, ?MAX_PIECES - Left);
        _TooMuch -> {error, emsgsize}
    end.

-spec get(sockpool_nif:lease() | term()) -> {ok, term()} | not_a_conn | {error, term()}.
get(Conn) -> sockpool_nif:state(Conn).

%% Of so many pieces; negative once they do not suffice, and then no further is looked.
left(_Term, Left) when Left < 0 -> Left;
left([Head | Tail], Left) -> left(Tail, left(Head, Left - 1));
left(Tuple, Left) when is_tuple(Tuple) -> left_of_tuple(Tuple, tuple_size(Tuple), Left - 1);
left(Map, Left) when is_map(Map) -> left_of_map(maps:next(maps:iterator(Map)), Left - 1);
left(Bits, Left) when is_bitstring(Bits) -> Left - 1 - byte_size(Bits);
left(Small, Left) when is_atom(Small); is_pid(Small); Small =:= [] -> Left - 1;
%% A long integer has as many as it has, and a fun what it closes over.
left(Other, Left) -> Left - erlang:external_size(Other).

left_of_tuple(_Tuple, At, Left) when At =:= 0; Left < 0 -> Left;
left_of_tuple(Tuple, At, Left) -> left_of_tuple(Tuple, At - 1, left(element(At, Tuple), Left)).

left_of_map(none, Left) -> Left;
left_of_map(_Next, Left) when Left < 0 -> Left;
left_of_map({Key, Value, Iterator}, Left) -> left_of_map(maps:next(Iterator), left(Value, left(Key, Left))).
