%%% @private
%%% How far an attempt to connect has come, in a place that is there when its process is not: what is told
%%% where its time is over.
-module(sockpool_step).

-export([new/0, enter/2, timeout/1, words/1]).
-export_type([at/0, step/0]).

-opaque at() :: atomics:atomics_ref().
-type step() :: begins | files | look_up | epmd | connect | backlog | handshake | dirty_schedulers | init.

-spec new() -> at().
new() -> atomics:new(1, []).

-spec enter(at(), step()) -> ok.
enter(At, Step) -> atomics:put(At, 1, index(Step, steps(), 0)).

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
        init -> "in init"
    end.

step(At) -> lists:nth(atomics:get(At, 1) + 1, steps()).

steps() -> [begins, files, look_up, epmd, connect, backlog, handshake, dirty_schedulers, init].

index(Step, [Step | _], Before) -> Before;
index(Step, [_ | Rest], Before) -> index(Step, Rest, Before + 1).
