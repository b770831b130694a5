%% @doc The pool that is measured.
-module(sockpool_bench_pool).

-export([start/2, stop/1]).

-define(POOL, ?MODULE).

%% @doc A pool for the target, once all of its connections are there. More options go over those
%% that the target means.
-spec start(sockpool_bench_peers:target(), map()) -> atom().
start(Target = #{size := Size, max_overflow := Overflow}, More) ->
    {ok, _} = application:ensure_all_started(sockpool),
    %% One that a failed measurement left behind.
    _ = sockpool:stop_pool(?POOL),
    Options = (sockpool_bench_socket:pool_options(Target))#{size => Size, max_overflow => Overflow},
    Wanted = #{size := Ready} = maps:merge(Options, More),
    ok = sockpool:start_pool(?POOL, Wanted),
    ok = sockpool_bench_wait:until(fun() -> idle() =:= Ready end),
    ?POOL.

idle() ->
    {ok, #{idle := Idle}} = sockpool:stats(?POOL),
    Idle.

-spec stop(atom()) -> ok.
stop(Pool) ->
    ok = sockpool:stop_pool(Pool).
