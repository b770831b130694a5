%%% @private
%%% Why something failed, made fit to be told to every caller and to be logged: of a bounded size, and
%%% without the arguments of the functions that were called, among which a password may be.
-module(sockpool_reason).

-export([bounded/1, of_exception/3, of_exit/1, class/1, why/1]).
-export_type([class/0]).

%% Of an attempt to connect that has failed; the words of sp_stats.h.
-type class() :: refused | timeout | dns | tls | init | other.

%% Terms, and bytes of binaries, that a reason may have. What is left out is written '...'.
-define(MAX_PIECES, 1000).
-define(MAX_FRAMES, 8).
%% Of calls that failed because a call failed.
-define(MAX_DEPTH, 4).
-define(CUT, '...').

%% @doc The same term, where it is small.
-spec bounded(term()) -> term().
bounded(Term) ->
    {Bounded, _Left} = cut(Term, ?MAX_PIECES),
    Bounded.

%% @doc With the stack as {Module, Function, Arity, Where}.
-spec of_exception(throw | error | exit, term(), list()) -> {throw | error | exit, term(), list()}.
of_exception(exit, Reason, Stack) ->
    {exit, of_exit(Reason), frames(Stack)};
of_exception(Class, Reason, Stack) ->
    {Class, bounded(Reason), frames(Stack)}.

%% @doc Of a process that died: {Reason, Stack} where it crashed, {Reason, {M, F, Args}} where a call of
%% it failed.
-spec of_exit(term()) -> term().
of_exit(Reason) -> of_exit(Reason, ?MAX_DEPTH).

of_exit(_Reason, 0) ->
    ?CUT;
of_exit({Reason, {M, F, Args}}, Depth) when is_atom(M), is_atom(F), length(Args) >= 0 ->
    {of_exit(Reason, Depth - 1), {M, F, length(Args)}};
of_exit({Reason, [{M, F, _, Where} | _] = Stack}, Depth) when is_atom(M), is_atom(F), is_list(Where) ->
    {of_exit(Reason, Depth - 1), frames(Stack)};
of_exit(Reason, _Depth) ->
    bounded(Reason).

%% What only looks like a stack has none.
frames(Stack) ->
    try
        bounded([frame(Frame) || Frame <- lists:sublist(Stack, ?MAX_FRAMES)])
    catch
        error:_ -> []
    end.

frame({M, F, A, Where}) ->
    {M, F, arity(A), [Place || {Key, _} = Place <- Where, Key =:= file orelse Key =:= line]};
frame({Fun, A, Where}) ->
    {module, M} = erlang:fun_info(Fun, module),
    {name, F} = erlang:fun_info(Fun, name),
    frame({M, F, A, Where}).

arity(Args) when is_list(Args) -> length(Args);
arity(Arity) -> Arity.

%%% What is counted by reasons.

%% @doc Why a connection is closed on which that has happened; see sp_why.h.
-spec why(term()) -> io_timeout | peer_closed | io_error.
why(Timeout) when Timeout =:= timeout; Timeout =:= etimedout -> io_timeout;
why(Closed) when Closed =:= closed; Closed =:= econnreset; Closed =:= epipe -> peer_closed;
why(_Reason) -> io_error.

%% @doc Where an attempt with that reason has failed.
-spec class(term()) -> class().
class(econnrefused) -> refused;
class(Timeout) when Timeout =:= timeout; Timeout =:= etimedout; Timeout =:= eagain -> timeout;
class({timeout, _Why}) -> timeout;
class(nxdomain) -> dns;
class({tls, _Why}) -> tls;
class({init, _Why}) -> init;
class(_Reason) -> other.

%%% Each piece costs one, and a binary its bytes.

cut(_Term, Left) when Left =< 0 ->
    {?CUT, 0};
cut(Bits, Left) when is_bitstring(Bits), byte_size(Bits) > Left ->
    <<Kept:Left/binary, _/bits>> = Bits,
    {<<(binary:copy(Kept))/binary, "...">>, 0};
cut(Bits, Left) when is_bitstring(Bits) ->
    {Bits, Left - 1 - byte_size(Bits)};
cut([Head | Tail], Left) ->
    cut_list(Head, Tail, Left - 1, []);
cut(Tuple, Left) when is_tuple(Tuple) ->
    {Elements, Rest} = cut_elements(Tuple, 1, Left - 1, []),
    {list_to_tuple(Elements), Rest};
cut(Map, Left) when is_map(Map) ->
    cut_pairs(maps:next(maps:iterator(Map)), Left - 1, []);
%% What it closes over has no bound, and is not shown.
cut(Fun, Left) when is_function(Fun) ->
    {list_to_binary(erlang:fun_to_list(Fun)), Left - 1};
cut(Integer, _Left) when is_integer(Integer), abs(Integer) > 1 bsl 1024 ->
    {?CUT, 0};
cut(Term, Left) ->
    {Term, Left - 1}.

cut_list(Head, Tail, Left, Done) ->
    {First, Rest} = cut(Head, Left),
    case Tail of
        _ when Rest =< 0, Tail =/= [] -> {lists:reverse([?CUT, First | Done]), 0};
        [Next | More] -> cut_list(Next, More, Rest, [First | Done]);
        [] -> {lists:reverse([First | Done]), Rest};
        _Improper ->
            {Last, Left2} = cut(Tail, Rest),
            {lists:reverse([First | Done], Last), Left2}
    end.

cut_elements(Tuple, At, Left, Done) when At > tuple_size(Tuple) ->
    {lists:reverse(Done), Left};
cut_elements(_Tuple, _At, Left, Done) when Left =< 0 ->
    {lists:reverse([?CUT | Done]), 0};
cut_elements(Tuple, At, Left, Done) ->
    {Element, Rest} = cut(element(At, Tuple), Left),
    cut_elements(Tuple, At + 1, Rest, [Element | Done]).

cut_pairs(none, Left, Done) ->
    {maps:from_list(Done), Left};
cut_pairs(_Next, Left, Done) when Left =< 0 ->
    {maps:from_list([{?CUT, ?CUT} | Done]), 0};
cut_pairs({Key, Value, Iterator}, Left, Done) ->
    {CutKey, Rest} = cut(Key, Left),
    {CutValue, Rest2} = cut(Value, Rest),
    cut_pairs(maps:next(Iterator), Rest2, [{CutKey, CutValue} | Done]).
