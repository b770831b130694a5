%% @doc A new TLS connection of sockpool's for each request: full handshakes or resumed ones.
%%
%% The pool keeps no connection (size 0) and each one is discarded after its request, so every
%% checkout waits for a handshake. The request is part of the operation because a server sends
%% its tickets after the handshake: who leaves without a read has none to resume with.
-module(sockpool_bench_handshakes).

-export([start/2, enter/3, stop/1, tally/1]).
-export_type([shared/0]).

-opaque shared() :: {Pool :: atom(), counters:counters_ref()}.

-define(RESUMED, 1).
-define(FULL, 2).
-define(TIMEOUT_MS, 5000).

-spec start(sockpool_bench_peers:target(), SessionReuse :: boolean()) -> shared().
start(Target = #{size := Size, max_overflow := Overflow}, SessionReuse) ->
    #{tls := Tls} = sockpool_bench_socket:pool_options(Target),
    Pool = sockpool_bench_pool:start(Target, #{size => 0, max_overflow => Size + Overflow,
                                               tls => Tls#{session_reuse => SessionReuse}}),
    {Pool, counters:new(2, [write_concurrency])}.

-spec stop(shared()) -> ok.
stop({Pool, _}) ->
    sockpool_bench_pool:stop(Pool).

-spec enter(shared(), sockpool_bench_peers:target(), Payload :: binary()) ->
          sockpool_bench_peers:operation().
enter({Pool, Counters}, #{bytes := Bytes}, Payload) ->
    fun() ->
        case sockpool:checkout(Pool, ?TIMEOUT_MS) of
            {ok, Conn} ->
                Outcome = sockpool_bench_peers:exchange(Conn, Payload, Bytes),
                count(Counters, sockpool:info(Conn)),
                ok = sockpool:discard(Conn),
                Outcome;
            {error, Reason} ->
                {error, Reason}
        end
    end.

count(Counters, {ok, #{resumed := true}}) -> counters:add(Counters, ?RESUMED, 1);
count(Counters, {ok, #{resumed := false}}) -> counters:add(Counters, ?FULL, 1).

%% @doc How many handshakes there were of each kind, warm-up included.
-spec tally(shared()) -> #{resumed := non_neg_integer(), full := non_neg_integer()}.
tally({_, Counters}) ->
    #{resumed => counters:get(Counters, ?RESUMED), full => counters:get(Counters, ?FULL)}.
