%%% Runs the PropEr properties. A failing run prints its seed, and the commands or scripts, shrunk.
%%% The same runs again: SOCKPOOL_SEED=123 rebar3 ct --suite test/sockpool_proper_SUITE
-module(sockpool_proper_SUITE).

-export([suite/0, all/0, groups/0]).
-export([model/1, workers/1, piped/1, scripts/1]).
%% Run in the other VM.
-export([checked/4]).

-include_lib("common_test/include/ct.hrl").

-define(RUNS, 300).
%% Each takes longer: whoever dies has to be replaced.
-define(WORKER_RUNS, 200).

%% Shrinking takes a while, because what is wrong is only seen after some seconds of patience.
suite() ->
    [{timetrap, {minutes, 5}}].

all() -> [{group, side_by_side}].

%% Each starts and stops sockpool for each run, so each has a VM of its own.
groups() -> [{side_by_side, [parallel], [model, workers, piped, scripts]}].

model(Config) -> check(sockpool_statem, prop_model, ?RUNS, Config).

workers(Config) -> check(sockpool_statem, prop_workers, ?WORKER_RUNS, Config).

piped(Config) -> check(sockpool_statem_piped, prop_piped, ?RUNS, Config).

scripts(Config) -> check(sockpool_scripts, prop_scripts, ?RUNS, Config).

%% Pools are crashed on purpose: nothing is logged there.
check(Module, Property, Runs, Config) ->
    {ok, Vm, _} = peer:start_link(#{connection => standard_io, wait_boot => 60000,
                                    args => ["-kernel", "logger_level", "none", "-pa" | code:get_path()]}),
    {Result, Output} = peer:call(Vm, ?MODULE, checked, [Module, Property, ?config(seed, Config), Runs], infinity),
    ok = peer:stop(Vm),
    ct:log("~ts", [Output]),
    case Result of
        true ->
            ok;
        Counterexample ->
            ct:pal("~p", [Counterexample]),
            ct:fail({seed, ?config(seed, Config)})
    end.

%% PropEr has no option for the seed, but makes everything with `rand', and its setup comes after
%% it has seeded that.
-spec checked(module(), atom(), non_neg_integer(), pos_integer()) -> {true | term(), iodata()}.
checked(Module, Property, Seed, Runs) ->
    Self = self(),
    SetUp = fun() -> _ = rand:seed(exsss, {Seed, 0, 0}), fun() -> ok end end,
    Print = fun(Format, Args) -> Self ! {printed, io_lib:format(Format, Args)}, ok end,
    Result = proper:counterexample(proper:setup(SetUp, Module:Property()),
                                   [{numtests, Runs}, {max_size, 60}, {max_shrinks, 50},
                                    {on_output, Print}]),
    {Result, printed()}.

printed() ->
    receive {printed, Text} -> [Text | printed()] after 0 -> [] end.
