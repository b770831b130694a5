%%% @private
%%% Connections that are processes: how one is started, and how it ends.
%%%
%%% It is started by a connector, which is then its parent as gen_server and others know it, and which ends when the
%%% worker is the pool's. The pool's process is linked to it from then on. To end it, it is told what its parent's end
%%% would tell it: `{'EXIT', Parent, shutdown}', after which those that trap exits run their `terminate'; the others end
%%% by the signal `shutdown'. Who has not ended within `worker_shutdown' is killed.
-module(sockpool_worker).

-export([watch/2, start/2, end_started/1, stop/3, stop_start/2, fit/2]).

%% @doc Has whatever the caller, a connector, has started end where the pool's process ends before the caller does: a start
%% function may wait for ever, and hears of nothing then.
-spec watch(PoolProcess :: pid(), sockpool_opts:opts()) -> pid().
watch(Pool, #{worker_shutdown := ShutdownMs}) ->
    Connector = self(),
    spawn(fun() ->
                  Ended = monitor(process, Connector),
                  Gone = monitor(process, Pool),
                  receive
                      {'DOWN', Ended, process, _, _} -> ok;
                      {'DOWN', Gone, process, _, _} -> stopping(orphaned(Connector), Connector, ShutdownMs)
                  end
          end).

%% @doc Calls the pool's start function, in a process that traps exits.
-spec start(sockpool_opts:opts(), sockpool_nif:lease()) -> {ok, pid()} | {error, term()}.
start(#{worker := Callback, worker_shutdown := ShutdownMs}, Attempt) ->
    case started(Callback) of
        {ok, Worker} when is_pid(Worker), node(Worker) =:= node() ->
            begun(sockpool_nif:attempt_worker(Attempt, Worker), Worker, ShutdownMs);
        {error, Reason} ->
            {error, {worker, sockpool_reason:of_exit(Reason)}};
        Other ->
            {error, {worker, {bad_return, sockpool_reason:bounded(Other)}}}
    end.

started(Callback) ->
    try
        sockpool_callback:call(Callback, [])
    catch
        error:{badfun, Callback} -> {error, badfun};
        Class:Reason:Stack -> {error, sockpool_reason:of_exception(Class, Reason, Stack)}
    end.

begun(ok, Worker, _ShutdownMs) ->
    {ok, Worker};
begun({error, _} = Error, Worker, ShutdownMs) ->
    %% The pool has ended meanwhile, and knows nothing of this one.
    ok = stopping([Worker], self(), ShutdownMs),
    Error.

%% @doc Has end what a start function that failed has left behind, and of which nobody else knows: as one that returns
%% something else than `{ok, Pid}'. In the process that has called it.
-spec end_started(sockpool_opts:opts()) -> ok.
end_started(#{worker_shutdown := ShutdownMs}) -> stopping(children(self()), self(), ShutdownMs).

%% @doc Has a worker of this pool end, in a process of its own, whose monitor this is. `none': there is no process
%% to be had, and the worker is killed.
-spec stop(Connector :: pid(), Worker :: pid(), timeout()) -> reference() | none.
stop(Connector, Worker, WithinMs) ->
    apart(fun() -> stopping([Worker], Connector, WithinMs) end, Worker).

%% @doc Kills a connector whose time is over, and has end what it has started so far.
-spec stop_start(Connector :: pid(), timeout()) -> reference() | none.
stop_start(Connector, WithinMs) ->
    apart(fun() -> stopping(orphaned(Connector), Connector, WithinMs) end, Connector).

apart(Fun, Victim) ->
    try
        element(2, spawn_monitor(Fun))
    catch
        error:system_limit ->
            true = exit(Victim, kill),
            none
    end.

orphaned(Connector) ->
    Started = children(Connector),
    true = exit(Connector, kill),
    Started.

%% What it is linked to, and has spawned: not what it was linked to otherwise.
children(Connector) ->
    case process_info(Connector, links) of
        {links, Links} ->
            [Pid || Pid <- Links, is_pid(Pid), node(Pid) =:= node(),
                    process_info(Pid, parent) =:= {parent, Connector}];
        undefined ->
            []
    end.

stopping(Workers, Parent, WithinMs) ->
    await([told(Worker, Parent) || Worker <- Workers], sockpool_wait:deadline(WithinMs)).

told(Worker, Parent) ->
    Monitor = monitor(process, Worker),
    %% Before the signal, which would be a message from a stranger to it.
    _ = process_info(Worker, trap_exit) =:= {trap_exit, true} andalso (Worker ! {'EXIT', Parent, shutdown}),
    true = exit(Worker, shutdown),
    {Worker, Monitor}.

await([], _Deadline) ->
    ok;
await([{Worker, Monitor} | Rest], Deadline) ->
    receive
        {'DOWN', Monitor, process, _, _} -> ok
    after sockpool_wait:left(Deadline) ->
        true = exit(Worker, kill),
        receive {'DOWN', Monitor, process, _, _} -> ok end
    end,
    await(Rest, Deadline).

%% @doc What the pool's function `validate' says of the worker. Whatever is not `true' is no.
-spec fit(sockpool_nif:pool(), pid()) -> boolean().
fit(Pool, Worker) ->
    Callback = sockpool_nif:pool_check(Pool),
    try sockpool_callback:call(Callback, [Worker]) of
        true -> true;
        false -> false;
        Other -> unfit(Pool, {bad_return, sockpool_reason:bounded(Other)})
    catch
        error:{badfun, Callback} -> unfit(Pool, badfun);
        Class:Reason:Stack -> unfit(Pool, sockpool_reason:of_exception(Class, Reason, Stack))
    end.

unfit(Pool, Reason) ->
    ok = sockpool_nif:pool_note_error(Pool, {validate, Reason}),
    false.
