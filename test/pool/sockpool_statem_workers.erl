%%% The workers of sockpool_statem_world, where its pool is one of processes: which there are, who had which, and whether
%%% that is as the model says.
-module(sockpool_statem_workers).

-export([start/0, opts/1, offered/1, had/2, worker/1, idle/1, die/2, living/0, difference/2]).

-define(LIVES, sockpool_statem_lives).
-define(HANDS, sockpool_statem_hands).

-type key() :: pos_integer().

-type from() :: idle | any | {given, [key()], boolean()}.
%% Where the worker of a lease has to come from: it was there before; wherever; from one of these leases, which have just
%% ended, or, where a worker was lost with such a lease, it is another than all before.

-type expected() :: #{counts := #{atom() => non_neg_integer()}, from := #{key() => from()},
                      held := [key()], gone := [key()]}.
-export_type([from/0, expected/0]).

-spec start() -> ok.
start() ->
    ?LIVES = ets:new(?LIVES, [named_table, public]),
    ?HANDS = ets:new(?HANDS, [named_table, public]),
    ok.

%% Each worker says itself that it is there.
-spec opts(map()) -> map().
opts(#{worker := What} = Opts) ->
    Opts#{worker := {sockpool_test_worker, What#{init => fun() -> true = ets:insert(?LIVES, {self()}), ok end}}}.

-spec living() -> [pid()].
living() ->
    [Pid || {Pid} <- ets:tab2list(?LIVES), is_process_alive(Pid)].

%% Before it is known who gets which.
-spec offered(key()) -> ok.
offered(Key) ->
    true = ets:insert(?HANDS, {{before, Key}, living()}),
    ok.

-spec had(key(), pid()) -> ok.
had(Key, Pid) when is_pid(Pid) ->
    true = ets:insert(?HANDS, {Key, Pid}),
    ok.

%% Of this lease, ended or not.
-spec worker(key()) -> pid().
worker(Key) ->
    ets:lookup_element(?HANDS, Key, 2).

-spec idle([key()]) -> [pid()].
idle(Leased) ->
    living() -- [worker(Key) || Key <- Leased].

-spec die(pid(), kill | stop) -> ok.
die(Pid, How) ->
    Monitor = monitor(process, Pid),
    _ = case How of
            kill -> exit(Pid, kill);
            stop -> gen_server:cast(Pid, {stop, on_purpose})
        end,
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

-spec difference(expected(), sockpool:stats()) -> [term()].
difference(#{counts := Counts, from := From, held := Held, gone := Gone}, Stats) ->
    Pids = [worker(Key) || Key <- Held],
    Living = living(),
    Counted = maps:with(maps:keys(Counts), Stats),
    [{counts, Counted, instead_of, Counts} || Counted =/= Counts]
        ++ [{living, Living, instead_of, Stats} || length(Living) =/= maps:get(total, Counts)]
        ++ [{dead_in_hands, Dead} || Dead <- [Pids -- Living], Dead =/= []]
        ++ [{in_two_hands, Pids} || length(lists:usort(Pids)) =/= length(Pids)]
        ++ [{lives_on, Key} || Key <- Gone, lists:member(worker(Key), Living)]
        ++ [{has_come, Key, worker(Key), instead_of, Where}
            || {Key, Where} <- maps:to_list(From), not comes_from(Where, Key)].

comes_from(any, _Key) ->
    true;
comes_from(idle, Key) ->
    lists:member(worker(Key), ets:lookup_element(?HANDS, {before, Key}, 2));
comes_from({given, Returned, Another}, Key) ->
    lists:member(worker(Key), [worker(Other) || Other <- Returned])
        orelse (Another andalso ets:select(?HANDS, [{{'$1', worker(Key)}, [{'<', '$1', Key}], ['$1']}]) =:= []).
