%%% Drives every function of the NIF through the states and errors it has, for the tools that watch
%%% memory: scripts/valgrind_vm.sh and scripts/asan_vm.sh run it. It is also a test by itself: each
%%% group checks its answers, that the pool has all its connections back, and that its process was
%%% sent nothing it did not ask for.
-module(sockpool_exercise).

-export([main/0]).

-define(WHOLE_RUN_MS, 900000).
-define(CONNECTS_RUN_MS, 7200000).

%% @doc Ends the VM: 0 when all went well. With SOCKPOOL_TLS_CONNECTS=N in the environment, N connects
%% by TLS are the whole of it.
-spec main() -> no_return().
main() ->
    ok = logger:set_primary_config(level, none),
    {ok, _} = application:ensure_all_started(sockpool),
    case os:getenv("SOCKPOOL_TLS_CONNECTS") of
        false -> all();
        _Count -> connects()
    end.

connects() ->
    Watchdog = erlang:send_after(?CONNECTS_RUN_MS, self(), too_slow),
    Result = run(sockpool_exercise_tls, connects),
    _ = erlang:cancel_timer(Watchdog),
    case Result of
        failed -> halt(1);
        ok -> halt(0)
    end.

all() ->
    Watchdog = erlang:send_after(?WHOLE_RUN_MS, self(), too_slow),
    %% The counts are of the code as loaded last, and of calls that are meant to do something.
    Upgrade = run(sockpool_exercise_pools, upgrade),
    _ = erlang:trace_pattern({sockpool_nif, '_', '_'}, true, [call_count]),
    Results = [run(Module, Group) || {Module, Groups} <- groups(), Group <- Groups],
    Uncalled = uncalled(),
    Garbage = run(sockpool_exercise_nif, garbage),
    _ = erlang:cancel_timer(Watchdog),
    case {lists:member(failed, [Upgrade, Garbage | Results]), Uncalled} of
        {false, []} ->
            io:format("exercise: passed, every function of the NIF was called~n"),
            halt(0);
        {_, _} ->
            io:format("exercise: FAILED; functions never called: ~p~n", [Uncalled]),
            halt(1)
    end.

groups() ->
    [{sockpool_exercise_leases, [leases, waiters, deaths, storm, races, peers_that_close,
                                 max_hold]},
     {sockpool_exercise_bytes, [bytes, packets, large_messages, send_timeouts, requests,
                                unix_sockets]},
     {sockpool_exercise_pools, [overflow, connect_failures, pool_crash_and_stop, second_clock]},
     {sockpool_exercise_pipes, [pipes, pipe_functions, hostile]},
     {sockpool_exercise_workers, [workers, as_poolboys, deaths_of_workers, ends_of_workers]},
     {sockpool_exercise_tls, [tls]},
     {sockpool_exercise_node, [nodes]},
     {sockpool_exercise_nif, [functions]}].

%% Each group has a process of its own, so that it has a mailbox of its own.
run(Module, Group) ->
    Start = erlang:monotonic_time(millisecond),
    {Pid, Monitor} = spawn_monitor(fun() ->
                                           ok = Module:Group(),
                                           ok = sockpool_exercise_util:empty_mailbox()
                                   end),
    receive
        {'DOWN', Monitor, process, Pid, normal} ->
            io:format("exercise: ~s ok (~b ms)~n",
                      [Group, erlang:monotonic_time(millisecond) - Start]);
        {'DOWN', Monitor, process, Pid, Reason} ->
            io:format("exercise: ~s FAILED: ~p~n", [Group, Reason]),
            failed;
        too_slow ->
            io:format("exercise: ~s takes too long: ~p~n",
                      [Group, erlang:process_info(Pid, current_stacktrace)]),
            halt(2)
    end.

uncalled() ->
    [F || {Name, Arity} = F <- sockpool_nif:module_info(exports), Name =/= module_info,
          not was_called(erlang:trace_info({sockpool_nif, Name, Arity}, call_count))].

was_called({call_count, Count}) -> is_integer(Count) andalso Count > 0.
