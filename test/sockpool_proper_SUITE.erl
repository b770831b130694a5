%%% Runs the PropEr properties. A failing run prints its seed, and the commands or scripts, shrunk.
%%% The same runs again: PROPER_SEED="1,2,3" rebar3 ct --suite test/sockpool_proper_SUITE
-module(sockpool_proper_SUITE).

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([model/1, scripts/1]).

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

model(_Config) ->
    check(sockpool_statem:prop_model(), ?MODEL_RUNS).

scripts(_Config) ->
    check(sockpool_scripts:prop_scripts(), ?SCRIPT_RUNS).

%% PropEr has no option for the seed, but makes everything with `rand', and its setup comes after
%% it has seeded that.
check(Property, Runs) ->
    Seed = seed(),
    SetUp = fun() -> _ = rand:seed(exsss, Seed), fun() -> ok end end,
    Print = fun(Format, Args) -> ct:log(Format, Args) end,
    case proper:counterexample(proper:setup(SetUp, Property),
                               [{numtests, Runs}, {max_size, 60}, {max_shrinks, 50},
                                {on_output, Print}]) of
        true ->
            ok;
        Counterexample ->
            ct:pal("PROPER_SEED=\"~b,~b,~b\"~n~p", tuple_to_list(Seed) ++ [Counterexample]),
            ct:fail({seed, Seed})
    end.

seed() ->
    case os:getenv("PROPER_SEED") of
        false ->
            erlang:timestamp();
        Text ->
            [A, B, C] = [list_to_integer(Part) || Part <- string:lexemes(Text, ", ")],
            {A, B, C}
    end.
