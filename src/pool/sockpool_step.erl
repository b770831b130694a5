%%% @private
%%% Which attempt to connect it is, to which address, and how far it has come, in a place that is there when
%%% its process is not: what is told where its time is over.
-module(sockpool_step).

-export([new/0, new/1, enter/2, tried/2, resumed/1, timeout/1, words/1, attempt/1]).
-export([number/1, place/1, hosts/1, is_resumed/1, times/1]).
-export_type([at/0, step/0]).

-opaque at() :: atomics:atomics_ref().
-type step() :: begins | files | look_up | epmd | connect | backlog | handshake | dirty_schedulers | init | start.

-define(STEP, 1).
-define(NUMBER, 2).
%% The length of the address, and the port; its two halves.
-define(PLACE, 3).
-define(HIGH, 4).
-define(LOW, 5).
%% When it began, and when its step did, in native units since the start of the VM.
-define(BEGAN, 6).
-define(SINCE, 7).
%% For how long it was at the steps of each phase, but for the last step.
-define(TIMES, 8).
%% How many hosts were tried; whether TLS has resumed a session.
-define(HOSTS, 12).
-define(RESUMED, 13).

%% @doc Of what is no attempt.
-spec new() -> at().
new() -> new(0).

%% @doc Attempts are counted from 1.
-spec new(non_neg_integer()) -> at().
new(Number) ->
    At = atomics:new(?RESUMED, [{signed, false}]),
    Now = now_native(),
    ok = atomics:put(At, ?NUMBER, Number),
    ok = atomics:put(At, ?BEGAN, Now),
    ok = atomics:put(At, ?SINCE, Now),
    At.

now_native() -> erlang:monotonic_time() - erlang:system_info(start_time).

-spec enter(at(), step()) -> ok.
enter(At, Step) ->
    _ = is_of_now(At) andalso timed(At, Step),
    atomics:put(At, ?STEP, index(Step, steps(), 0)).

timed(At, Step) ->
    Now = now_native(),
    ok = spent(phase(step(At)), Now, At),
    _ = Step =:= look_up andalso atomics:add(At, ?HOSTS, 1),
    atomics:put(At, ?SINCE, Now).

%% And not of code of before.
is_of_now(At) -> maps:get(size, atomics:info(At)) =:= ?RESUMED.

spent(none, _Now, _At) -> ok;
spent(Phase, Now, At) -> atomics:add(At, ?TIMES + Phase, Now - atomics:get(At, ?SINCE)).

%% Which of phases() a step is of, counted from 0.
phase(look_up) -> 0;
phase(epmd) -> 0;
phase(connect) -> 1;
phase(backlog) -> 1;
phase(handshake) -> 2;
phase(dirty_schedulers) -> 2;
phase(init) -> 3;
phase(_Begins) -> none.

phases() -> [resolve, tcp, tls, init].

%% @doc TLS goes on with a session of before.
-spec resumed(at()) -> ok.
resumed(At) -> atomics:put(At, ?RESUMED, 1).

%% @doc When it is over: how long it took in all, and its phases, in native units.
-spec times(at()) -> #{duration | resolve | tcp | tls | init => non_neg_integer()}.
times(At) ->
    Now = now_native(),
    Last = phase(step(At)),
    Times = [{Phase, atomics:get(At, ?TIMES + I) + case I of Last -> Now - atomics:get(At, ?SINCE); _ -> 0 end}
             || {I, Phase} <- lists:zip(lists:seq(0, 3), phases())],
    maps:from_list([{duration, Now - atomics:get(At, ?BEGAN)} | Times]).

-spec is_resumed(at()) -> boolean().
is_resumed(At) -> atomics:get(At, ?RESUMED) =:= 1.

%% @doc How many hosts were tried.
-spec hosts(at()) -> non_neg_integer().
hosts(At) -> atomics:get(At, ?HOSTS).

%% @doc Which attempt it is; 0: none, or one of code of before.
-spec number(at()) -> non_neg_integer().
number(At) ->
    case is_of_now(At) of
        true -> atomics:get(At, ?NUMBER);
        false -> 0
    end.

%% @doc The address that is tried now, or that failed; none where it did not come to that, or has no port.
-spec tried(at(), none | {Address :: binary(), inet:port_number() | local}) -> ok.
tried(At, {Address, Port}) when is_integer(Port) ->
    Padded = <<0:(128 - bit_size(Address)), Address/binary>>,
    <<High:64, Low:64>> = Padded,
    ok = atomics:put(At, ?HIGH, High),
    ok = atomics:put(At, ?LOW, Low),
    atomics:put(At, ?PLACE, byte_size(Address) bsl 16 bor Port);
tried(At, _None) ->
    atomics:put(At, ?PLACE, 0).

%% @doc The reason of an attempt whose time is over.
-spec timeout(at()) -> timeout | eagain | {timeout, dirty_schedulers}.
timeout(At) ->
    case step(At) of
        dirty_schedulers -> {timeout, dirty_schedulers};
        backlog -> eagain;
        _ -> timeout
    end.

%% @doc For a log, after such a reason.
-spec words(at()) -> string().
words(At) ->
    case step(At) of
        begins -> "before it began";
        files -> "reading the files of TLS";
        look_up -> "looking the name up";
        epmd -> "asking epmd";
        connect -> "connecting";
        backlog -> "the server does not accept";
        handshake -> "in the handshake";
        dirty_schedulers -> "waiting for a dirty scheduler";
        init -> "in init";
        start -> "starting the worker"
    end.

%% @doc For a log: its number, and its address.
-spec attempt(at()) -> iolist().
attempt(At) ->
    case {number(At), place(At)} of
        {0, _} -> "";
        {Number, undefined} -> io_lib:format(", attempt ~b", [Number]);
        {Number, {Address, Port}} -> io_lib:format(", attempt ~b, at ~ts:~b", [Number, sockpool_host:text(Address), Port])
    end.

%% @doc The address that is tried now, or that failed, or that it is connected to.
-spec place(at()) -> {inet:ip_address(), inet:port_number()} | undefined.
place(At) ->
    case atomics:get(At, ?PLACE) of
        0 ->
            undefined;
        Place ->
            Size = Place bsr 16,
            Padded = <<(atomics:get(At, ?HIGH)):64, (atomics:get(At, ?LOW)):64>>,
            {sockpool_host:address(binary:part(Padded, 16 - Size, Size)), Place band 16#ffff}
    end.

step(At) -> lists:nth(atomics:get(At, ?STEP) + 1, steps()).

steps() -> [begins, files, look_up, epmd, connect, backlog, handshake, dirty_schedulers, init, start].

index(Step, [Step | _], Before) -> Before;
index(Step, [_ | Rest], Before) -> index(Step, Rest, Before + 1).
