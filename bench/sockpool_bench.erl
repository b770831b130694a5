%% @doc The benchmark: sockpool beside its peers, with real requests and replies.
%%
%% ```
%% make bench                                   everything
%% make -C bench run RUNS="echo headline"       some runs
%% sockpool_bench:run_all().  sockpool_bench:run(echo).      in a shell
%% '''
%% BENCH_WINDOW_MS (default 700) is the measured time of each figure, BENCH_ROUNDS (default 3) the
%% number of alternating rounds. Results go to bench/results: results.json and SVG plots.
-module(sockpool_bench).

-export([main/0, main/1, run_all/0, run/1, names/0]).
-export_type([name/0]).

-type name() :: baseline_no_pool | pool_10_conns | pool_50_conns | pool_100_conns |
                scaling_test | leak_test | memory | concurrent_1000 | concurrent_6200 |
                concurrent_10000 | checkout | counting | workers | echo | pipeline | slow_reply | ageing |
                redis | headline | tls | head_of_line | c_node | c_pipeline.

%% @doc The runs, in their order.
-spec names() -> [name()].
names() ->
    [headline, baseline_no_pool, memory, leak_test, checkout, counting, workers, echo, pipeline, slow_reply, ageing,
     redis, tls, head_of_line, scaling_test, pool_10_conns, pool_50_conns, pool_100_conns,
     concurrent_1000, concurrent_6200, concurrent_10000, c_node, c_pipeline].

%% @doc For `erl -run sockpool_bench main [Name ...]': runs these (none = all) and ends the VM,
%% with status 1 if a run could not be done or sockpool had an error.
-spec main() -> no_return().
main() ->
    main([]).

-spec main([string()]) -> no_return().
main(Arguments) ->
    try [name(Argument) || Argument <- Arguments] of
        [] -> finish(run_all());
        Names -> finish(run_these(Names))
    catch
        throw:{unknown, Argument} ->
            io:format("No run is called ~s. There are:~s~n",
                      [Argument, [[" ", atom_to_list(Name)] || Name <- names()]]),
            halt(2)
    end.

name(Argument) ->
    case [Name || Name <- names(), atom_to_list(Name) =:= Argument] of
        [Name] -> Name;
        [] -> throw({unknown, Argument})
    end.

finish(ok) -> halt(0);
finish({error, _}) -> halt(1).

%% @doc All runs, about ten minutes.
-spec run_all() -> ok | {error, Problems :: [string()]}.
run_all() ->
    run_these(names()).

%% @doc One run by its name.
-spec run(name()) -> ok | {error, Problems :: [string()]}.
run(Name) ->
    run_these([Name]).

run_these(Names) ->
    case [App || App <- [poolboy, jiffy, ssl], code:which(App) =:= non_existing] of
        [] ->
            Machine = machine(),
            print_machine(Machine),
            report(Names, Machine, lists:foldl(fun run_one/2, {[], [], []}, Names));
        Missing ->
            io:format("The benchmark needs the Debian packages~s.~n",
                      [[[" erlang-", atom_to_list(App)] || App <- Missing]]),
            {error, ["packages are missing"]}
    end.

%% A run that crashes must not take the figures of the others with it.
run_one(Name, {Series, Checks, Problems}) ->
    sockpool_bench_report:progress("~s: ~s", [Name, sockpool_bench_runs:about(Name)]),
    try sockpool_bench_runs:run(Name) of
        {More, Checked} -> {Series ++ More, Checks ++ Checked, Problems}
    catch
        Class:Reason:Stack ->
            Problem = format("~s could not be done: ~p:~0p at ~0p",
                             [Name, Class, Reason, hd(Stack ++ [unknown])]),
            io:format("~s~n", [Problem]),
            {Series, Checks, Problems ++ [Problem]}
    end.

report(Names, Machine, {Series, Checks, RunProblems}) ->
    Rows = [sockpool_bench_rounds:summary(One, Series) || One <- Series],
    Goals = sockpool_bench_goals:judge(Names, Series),
    ok = sockpool_bench_report:table(Rows),
    ok = sockpool_bench_report:checks(Checks),
    ok = sockpool_bench_report:goals(Goals),
    Plotted = sockpool_bench_plot:draw(Rows),
    Problems = RunProblems ++ lists:flatmap(fun row_problems/1, Rows) ++
        [format("~s: ~s is ~p", [Run, Text, Value])
         || #{run := Run, text := Text, value := Value, ok := false} <- Checks] ++
        plot_problems(Plotted),
    Json = sockpool_bench_report:json("results.json",
                                      #{machine => Machine, rows => Rows, goals => Goals,
                                        checks => Checks,
                                        problems => [list_to_binary(P) || P <- Problems]}),
    ok = sockpool_bench_report:problems(Problems),
    io:format("~nWritten:~s~n", [[[" ", File] || File <- [Json | plots(Plotted)]]]),
    case Problems of
        [] -> ok;
        _ -> {error, Problems}
    end.

row_problems(#{run := Run, peer := Peer, processes := Processes, status := {failed, Reason}}) ->
    [format("~s, ~s, ~b processes: failed with ~0p", [Run, Peer, Processes, Reason])];
row_problems(#{run := Run, peer := Peer, processes := Processes, errors := Errors})
  when map_size(Errors) > 0 ->
    case is_sockpool(Peer) of
        true -> [format("~s, ~s, ~b processes: errors ~0p", [Run, Peer, Processes, Errors])];
        false -> []
    end;
row_problems(#{run := Run, peer := Peer, processes := Processes, status := {skipped, Why}}) ->
    case is_sockpool(Peer) of
        true -> [format("~s, ~s, ~b processes: not run: ~s", [Run, Peer, Processes, Why])];
        false -> []
    end;
row_problems(_) ->
    [].

is_sockpool(Peer) ->
    lists:prefix("sockpool", atom_to_list(Peer)).

plot_problems({ok, _}) -> [];
plot_problems({error, Why}) -> [Why].

plots({ok, Files}) -> Files;
plots({error, _}) -> [].

machine() ->
    #{otp => list_to_binary(erlang:system_info(otp_release)),
      schedulers => erlang:system_info(schedulers_online),
      system => list_to_binary(string:trim(os:cmd("uname -srm"))),
      load => list_to_binary(string:trim(os:cmd("uptime"))),
      time => list_to_binary(calendar:system_time_to_rfc3339(erlang:system_time(second)))}.

%% The load before the first run: on a machine that is busy otherwise, no figure means much.
print_machine(#{otp := Otp, schedulers := Schedulers, system := System, load := Load}) ->
    io:format("Erlang/OTP ~s, ~b schedulers, ~s~n~s~n", [Otp, Schedulers, System, Load]).

format(Format, Args) ->
    lists:flatten(io_lib:format(Format, Args)).
