%%% What several suites need: waiting for a condition, pools that have come to rest, processes that
%%% run something and report, descriptors, percentiles.
-module(sockpool_test_util).

-export([start_pool/2, pools/0]).
-export([wait_until/1, wait_until/2, stat/2, stats/1, settled/1, unavailable/1, why_unavailable/1,
         assert_adds_up/1]).
-export([root/0, with_library_copied/2]).
-export([start/1, await/1, await/2, run_all/1, on_scheduler/2, assert_no_messages/0]).
-export([stop_program/1, continue_program/1]).
-export([ids/1, elapsed_ms/1, percentile/2, us_since/1, descriptors/0, unix_path/0, seed/0]).

-export_type([job/0]).

-type job() :: {pid(), Monitor :: reference(), Tag :: reference()}.

%% Of a machine that is shared with others: a process may have to wait a second for its turn.
-define(DEADLINE_MS, 30000).
-define(POLL_MS, 2).

-spec wait_until(fun(() -> true | term())) -> ok.
wait_until(Condition) -> wait_until(Condition, ?DEADLINE_MS).

%% Polls until the fun returns true; fails with what it last returned.
-spec wait_until(fun(() -> true | term()), non_neg_integer()) -> ok.
wait_until(Condition, TimeoutMs) ->
    poll(Condition, erlang:monotonic_time(millisecond) + TimeoutMs, TimeoutMs).

poll(Condition, Deadline, TimeoutMs) ->
    case Condition() of
        true ->
            ok;
        Last ->
            erlang:monotonic_time(millisecond) < Deadline
                orelse error({not_reached_in_ms, TimeoutMs, Last}),
            receive after ?POLL_MS -> poll(Condition, Deadline, TimeoutMs) end
    end.

%%% Pools.

%% With the pid of its process.
-spec start_pool(atom(), sockpool:options()) -> {ok, pid()} | {error, term()}.
start_pool(Pool, Opts) ->
    case sockpool:start_pool(Pool, Opts) of
        ok -> {ok, sockpool_nif:pool_controller(sockpool_pool:find(Pool))};
        {error, _} = Error -> Error
    end.

%% Of this node.
-spec pools() -> [atom()].
pools() ->
    {ok, Names} = sockpool:which_pools(),
    Names.

-spec stats(atom()) -> map().
stats(Pool) ->
    {ok, Stats} = sockpool:stats(Pool),
    Stats.

-spec stat(atom(), atom()) -> non_neg_integer().
stat(Pool, Key) -> maps:get(Key, stats(Pool)).

%% Until the pool has its base size and nothing is under way in it. It may have to be started yet.
-spec settled(atom()) -> map().
settled(Pool) ->
    wait_until(fun() ->
                       case sockpool:stats(Pool) of
                           {ok, #{leased := 0, waiting := 0, connecting := 0, idle := Total,
                                  total := Total, size := Size}} when Total >= Size -> true;
                           Other -> Other
                       end
               end),
    assert_adds_up(Pool).

%% The reason for which connecting fails, once it has.
-spec unavailable(sockpool:pool()) -> term().
unavailable(Pool) -> why_unavailable(fun() -> sockpool:checkout(Pool, 500) end).

%% What the fun does takes a connection, and has a limit: before a first attempt has failed, that is all
%% there is to tell.
-spec why_unavailable(fun(() -> {error, term()})) -> term().
why_unavailable(Ask) ->
    case Ask() of
        {error, {unavailable, Reason}} -> Reason;
        {error, timeout} -> why_unavailable(Ask)
    end.

-spec assert_adds_up(atom()) -> map().
assert_adds_up(Pool) ->
    #{idle := Idle, leased := Leased, connecting := Connecting, total := Total,
      created := Created, closed := Closed} = Stats = stats(Pool),
    {Total, _} = {Idle + Leased + Connecting, Stats},
    {Total, _} = {Created - Closed + Connecting, Stats},
    ok = assert_reasons_add_up(Stats),
    Stats.

assert_reasons_add_up(#{closed := Closed, closed_by := ClosedBy, created := Created, connecting := Connecting,
                        connect_attempts := Attempts, connect_failures := Failures, connect_failed_by := FailedBy} = Stats) ->
    {Closed, _} = {lists:sum(maps:values(ClosedBy)), Stats},
    {Attempts, _} = {Created + Failures + Connecting, Stats},
    {Failures, _} = {lists:sum(maps:values(FailedBy)), Stats},
    ok;
%% Of a release that has no reasons.
assert_reasons_add_up(#{}) ->
    ok.

%%% Processes.

%% Runs the fun in a process of its own; await/1 has its result, or raises as it did.
-spec start(fun(() -> term())) -> job().
start(Fun) -> start(Fun, []).

start(Fun, Options) ->
    Parent = self(),
    Tag = make_ref(),
    {Pid, Monitor} = spawn_opt(fun() -> Parent ! {Tag, Fun()} end, [monitor | Options]),
    {Pid, Monitor, Tag}.

-spec await(job()) -> term().
await(Job) -> await(Job, 2 * ?DEADLINE_MS).

-spec await(job(), timeout()) -> term().
await({Pid, Monitor, Tag}, Timeout) ->
    receive
        {Tag, Result} ->
            true = demonitor(Monitor, [flush]),
            Result;
        {'DOWN', Monitor, process, Pid, Reason} ->
            error({job_died, Reason})
    after Timeout ->
        error({job_late, erlang:process_info(Pid, [current_stacktrace, messages])})
    end.

-spec run_all([fun(() -> term())]) -> [term()].
run_all(Funs) -> [await(Job) || Job <- [start(Fun) || Fun <- Funs]].

%% Bound to one scheduler, so that all of its check-ins meet the same idle shard.
-spec on_scheduler(pos_integer(), fun(() -> Result)) -> Result.
on_scheduler(Scheduler, Fun) -> await(start(Fun, [{scheduler, Scheduler}]), infinity).

-spec assert_no_messages() -> ok.
assert_no_messages() ->
    case process_info(self(), messages) of
        {messages, []} -> ok;
        {messages, Messages} -> error({stray_messages, Messages})
    end.

%%% Figures.

%% A fun that makes N-byte payloads, each of them once on this node.
-spec ids(pos_integer()) -> fun(() -> binary()).
ids(Bytes) ->
    fun() ->
            Id = integer_to_binary(erlang:unique_integer([positive])),
            <<Id/binary, (binary:copy(<<".">>, Bytes - byte_size(Id)))/binary>>
    end.

-spec elapsed_ms(fun(() -> Result)) -> {non_neg_integer(), Result}.
elapsed_ms(Fun) ->
    Start = erlang:monotonic_time(microsecond),
    Result = Fun(),
    {us_since(Start) div 1000, Result}.

-spec us_since(integer()) -> integer().
us_since(Start) -> erlang:monotonic_time(microsecond) - Start.

-spec percentile(number(), [number(), ...]) -> number().
percentile(Percent, Samples) ->
    lists:nth(max(1, ceil(length(Samples) * Percent / 100)), lists:sort(Samples)).

%% How many descriptors this VM has open, or `unknown' where the system does not tell.
-spec descriptors() -> non_neg_integer() | unknown.
descriptors() ->
    case file:list_dir("/proc/self/fd") of
        {ok, Names} -> length(Names);
        {error, _} -> unknown
    end.

%% The signal takes its time, and threads of the program run on meanwhile: returns when none does.
-spec stop_program(OsPid :: integer() | string()) -> ok.
stop_program(OsPid) ->
    "" = os:cmd(lists:concat(["kill -STOP ", OsPid])),
    Tasks = lists:concat(["/proc/", OsPid, "/task"]),
    wait_until(fun() ->
                       {ok, Ids} = file:list_dir(Tasks),
                       [] =:= [Id || Id <- Ids, not is_stopped(filename:join([Tasks, Id, "stat"]))]
               end).

%% A thread that has ended since the directory was read does not run either.
is_stopped(Stat) ->
    case file:read_file(Stat) of
        {ok, Text} -> re:run(Text, "\\) [TtZX] ") =/= nomatch;
        {error, _} -> true
    end.

-spec continue_program(OsPid :: integer() | string()) -> ok.
continue_program(OsPid) ->
    "" = os:cmd(lists:concat(["kill -CONT ", OsPid])),
    ok.

%% Short enough for a Unix socket, which the suites' own directories are not.
-spec unix_path() -> string().
unix_path() ->
    Unique = erlang:unique_integer([positive]),
    lists:flatten(io_lib:format("/tmp/sockpool-~s-~b", [os:getpid(), Unique])).

%% Of this repository.
-spec root() -> file:filename().
root() -> filename:absname(filename:join([code:lib_dir(sockpool) | lists:duplicate(4, "..")])).

%% Copies sockpool into the directory. The fun gets a fun that makes it the place from which modules,
%% and with them the library, are loaded; afterwards it is what it was.
-spec with_library_copied(file:filename(), fun((fun(() -> ok)) -> Result)) -> Result.
with_library_copied(Next, Fun) ->
    %% Not where the module was loaded from: that is the last copy, after such a case.
    Here = filename:join(code:lib_dir(sockpool), "ebin"),
    copy(Here, filename:join(Next, "ebin")),
    copy(code:priv_dir(sockpool), filename:join(Next, "priv")),
    try
        Fun(fun() ->
                    true = code:replace_path(sockpool, filename:join(Next, "ebin")),
                    ok
            end)
    after
        true = code:replace_path(sockpool, Here)
    end.

copy(From, To) ->
    ok = filelib:ensure_dir(filename:join(To, "x")),
    {ok, Names} = file:list_dir(From),
    lists:foreach(fun(Name) -> copied(filename:join(From, Name), filename:join(To, Name)) end, Names).

copied(From, To) ->
    case filelib:is_dir(From) of
        true -> copy(From, To);
        false -> {ok, _} = file:copy(From, To)
    end.

%% Another one each time, or what SOCKPOOL_SEED says.
-spec seed() -> non_neg_integer().
seed() ->
    case os:getenv("SOCKPOOL_SEED") of
        false -> binary:decode_unsigned(rand:bytes(4));
        Text -> list_to_integer(Text)
    end.
