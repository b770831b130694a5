%%% Runs the PropEr properties. A failing run prints its seed, and the commands or scripts, shrunk.
%%% The same runs again: SOCKPOOL_SEED=123 rebar3 ct --suite test/sockpool_proper_SUITE
-module(sockpool_proper_SUITE).

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([model/1, scripts/1]).

-include_lib("common_test/include/ct.hrl").

-define(MODEL_RUNS, 300).
-define(SCRIPT_RUNS, 300).

%% Shrinking takes a while, because what is wrong is only seen after some seconds of patience.
suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [model, scripts].

init_per_suite(Config) ->
    #{level := Level} = logger:get_primary_config(),
    %% Pools are crashed on purpose.
    ok = logger:set_primary_config(level, none),
    [{log_level, Level} | Config].

end_per_suite(Config) ->
    ok = logger:set_primary_config(level, proplists:get_value(log_level, Config)).

model(Config) ->
    check(sockpool_statem:prop_model(), ?MODEL_RUNS, Config).

scripts(Config) ->
    check(sockpool_scripts:prop_scripts(), ?SCRIPT_RUNS, Config).

%% PropEr has no option for the seed, but makes everything with `rand', and its setup comes after
%% it has seeded that.
check(Property, Runs, Config) ->
    SetUp = fun() -> _ = rand:seed(exsss, {?config(seed, Config), 0, 0}), fun() -> ok end end,
    Print = fun(Format, Args) -> ct:log(Format, Args) end,
    case proper:counterexample(proper:setup(SetUp, Property),
                               [{numtests, Runs}, {max_size, 60}, {max_shrinks, 50},
                                {on_output, Print}]) of
        true ->
            ok;
        Counterexample ->
            ct:pal("~p", [Counterexample]),
            ct:fail({seed, ?config(seed, Config)})
    end.
