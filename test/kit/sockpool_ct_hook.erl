%%% A hook of Common Test for every suite (rebar.config). Each suite gets a new seed, `seed' in its Config, and
%%% each case's process is seeded by it; who fails says it, and SOCKPOOL_SEED=N runs all suites under that one.
%%%
%%% With SOCKPOOL_CT_CASES in the environment, a line for each case that ran, failed or was skipped is appended
%%% to the file of that name, for scripts/ct_report.sh: what it came to, milliseconds, its name, a reason.
-module(sockpool_ct_hook).

-export([id/1, init/2, pre_init_per_suite/3, pre_init_per_testcase/4, post_end_per_testcase/5,
         on_tc_fail/4, on_tc_skip/4]).

id(_Options) -> ?MODULE.

init(_Id, _Options) -> {ok, #{}}.

pre_init_per_suite(_Suite, Config, State) ->
    Seed = sockpool_test_util:seed(),
    {[{seed, Seed} | Config], State#{seed => Seed}}.

pre_init_per_testcase(_Suite, Case, Config, #{seed := Seed} = State) ->
    _ = rand:seed(exsss, {Seed, erlang:phash2(Case), 0}),
    {[{began_ms, erlang:monotonic_time(millisecond)} | Config], State}.

post_end_per_testcase(Suite, Case, Config, Return, State) ->
    Began = proplists:get_value(began_ms, Config),
    write_down(ran, erlang:monotonic_time(millisecond) - Began, Suite, Case, ""),
    {Return, State}.

on_tc_fail(Suite, Case, Reason, #{seed := Seed} = State) ->
    ct:pal("~p ~p failed under SOCKPOOL_SEED=~b", [Suite, Case, Seed]),
    write_down(failed, 0, Suite, Case, {{seed, Seed}, Reason}),
    State.

%% What was skipped because something before it failed is none of the machine's lacks.
on_tc_skip(Suite, Case, {tc_auto_skip, Reason}, State) ->
    write_down(not_reached, 0, Suite, Case, Reason),
    State;
on_tc_skip(Suite, Case, {tc_user_skip, Reason}, State) ->
    write_down(skipped, 0, Suite, Case, Reason),
    State.

write_down(What, Ms, Suite, Case, Reason) ->
    case os:getenv("SOCKPOOL_CT_CASES") of
        false ->
            ok;
        File ->
            Line = io_lib:format("~s\t~b\t~s:~0tp\t~0tp\n", [What, Ms, Suite, Case, Reason]),
            ok = file:write_file(File, unicode:characters_to_binary(Line), [append])
    end.
