%%% @private
%%% Which attempt to connect it is, to which address, and how far it has come, in a place that is there when
%%% its process is not: what is told where its time is over.
-module(sockpool_step).

-export([new/0, new/1, enter/2, tried/2, timeout/1, words/1, attempt/1]).
-export_type([at/0, step/0]).

-opaque at() :: atomics:atomics_ref().
-type step() :: begins | files | look_up | epmd | connect | backlog | handshake | dirty_schedulers | init | start.

-define(STEP, 1).
-define(NUMBER, 2).
%% The length of the address, and the port; its two halves.
-define(PLACE, 3).
-define(HIGH, 4).
-define(LOW, 5).

%% @doc Of what is no attempt.
-spec new() -> at().
new() -> new(0).

%% @doc Attempts are counted from 1.
-spec new(non_neg_integer()) -> at().
new(Number) ->
    At = atomics:new(?LOW, [{signed, false}]),
    ok = atomics:put(At, ?NUMBER, Number),
    At.

-spec enter(at(), step()) -> ok.
enter(At, Step) -> atomics:put(At, ?STEP, index(Step, steps(), 0)).

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
    case atomics:info(At) of
        #{size := ?LOW} -> attempt(At, atomics:get(At, ?NUMBER), atomics:get(At, ?PLACE));
        #{} -> "" % of code of before
    end.

attempt(_At, 0, _Place) ->
    "";
attempt(_At, Number, 0) ->
    io_lib:format(", attempt ~b", [Number]);
attempt(At, Number, Place) ->
    Size = Place bsr 16,
    Padded = <<(atomics:get(At, ?HIGH)):64, (atomics:get(At, ?LOW)):64>>,
    Address = sockpool_host:address(binary:part(Padded, 16 - Size, Size)),
    io_lib:format(", attempt ~b, at ~ts:~b", [Number, sockpool_host:text(Address), Place band 16#ffff]).

step(At) -> lists:nth(atomics:get(At, ?STEP) + 1, steps()).

steps() -> [begins, files, look_up, epmd, connect, backlog, handshake, dirty_schedulers, init, start].

index(Step, [Step | _], Before) -> Before;
index(Step, [_ | Rest], Before) -> index(Step, Rest, Before + 1).
