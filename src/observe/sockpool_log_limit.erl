%%% @private
%%% How much is written to the log: of one pool and event one line at once, and then one in a while.
%%%
%%% A table of when the next may be and how many were left out. Two processes that come at the same instant may both write:
%%% that costs a line, and nobody waits. Pools are there by a number: the table would keep one that has no name.
-module(sockpool_log_limit).

-export([new/0, allow/1, allow/3]).

-define(EVERY_MS, 10000).
%% At each so many rows those that limit nothing any more are removed.
-define(MANY, 1000).

%% @doc The table is the calling process's. Without it nothing is limited.
-spec new() -> ok.
new() ->
    _ = ets:new(?MODULE, [named_table, public]),
    ok.

%% @doc Whether it is written, and how many were not since the last one. What is of no pool always is.
-spec allow(map()) -> {true, Suppressed :: non_neg_integer()} | false.
allow(#{event := Event}) when Event =:= cannot_connect; Event =:= connected_again; Event =:= workers_ended ->
    {true, 0}; % once in an outage, which the pool keeps apart, or so many together
allow(#{event := Event, pool := Pool}) ->
    try
        allow({Event, Pool}, erlang:monotonic_time(millisecond), every(application:get_env(sockpool, log_interval, ?EVERY_MS)))
    catch
        error:badarg -> {true, 0} % sockpool does not run
    end;
allow(_OfNoPool) ->
    {true, 0}.

every(Ms) when is_integer(Ms), Ms >= 0 -> Ms;
every(_Bad) -> ?EVERY_MS.

-spec allow(term(), NowMs :: integer(), EveryMs :: non_neg_integer()) -> {true, Suppressed :: non_neg_integer()} | false.
allow(What, NowMs, EveryMs) ->
    Key = erlang:phash2(What, 1 bsl 32),
    case ets:lookup(?MODULE, Key) of
        [{_, Last, _}] when NowMs - Last < EveryMs ->
            _ = ets:update_counter(?MODULE, Key, {3, 1}, {Key, Last, 0}),
            false;
        [{_, _, Suppressed}] ->
            written(Key, NowMs, EveryMs),
            {true, Suppressed};
        [] ->
            written(Key, NowMs, EveryMs),
            {true, 0}
    end.

written(Key, NowMs, EveryMs) ->
    _ = ets:info(?MODULE, size) rem ?MANY =:= ?MANY - 1 andalso ets:select_delete(?MODULE, [{{'_', '$1', '_'}, [{'<', '$1', NowMs - EveryMs}], [true]}]),
    true = ets:insert(?MODULE, {Key, NowMs, 0}).
