%%% @private
%%% Tells of those who had to wait for a connection for as long as the pool's `slow_checkout', by themselves: they have slept
%%% already.
-module(sockpool_slow).

-export([began/0, waited/3]).

%% Whose wait was shorter does not even ask the pool what is long.
-define(SHORTEST_MS, 1).

-spec began() -> integer().
began() -> erlang:monotonic_time().

%% @doc A wait that began then has come to that, and what it has come to.
-spec waited(sockpool_nif:pool(), Began :: integer(), Result) -> Result.
waited(Pool, Began, Result) ->
    Duration = erlang:monotonic_time() - Began,
    _ = case erlang:convert_time_unit(Duration, native, millisecond) of
            Ms when Ms >= ?SHORTEST_MS -> look(Pool, Duration, Ms, Result);
            _ -> ok
        end,
    Result.

%% `infinity' is more than any number.
look(Pool, Duration, Ms, Result) ->
    case sockpool_nif:pool_look(Pool) of
        {Name, _Up, Waiting, SlowMs} when Ms >= SlowMs ->
            sockpool_events:emit([sockpool, queue, slow], #{duration => Duration, waiting => Waiting},
                                 #{pool => Name, outcome => outcome(Result)});
        _ ->
            ok
    end.

outcome({error, {unavailable, _Last}}) -> unavailable;
outcome({error, Reason}) when is_atom(Reason) -> Reason;
outcome(timeout) -> timeout;
outcome(_Granted) -> granted.
