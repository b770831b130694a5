%%% @private
%%% Connections that are processes: how one is started, and how it ends.
%%%
%%% It is started by a connector, which is then its parent as gen_server and others know it, and which ends when the
%%% worker is the pool's. The pool's process is linked to it from then on. To end it, it is told what its parent's end
%%% would tell it: `{'EXIT', Parent, shutdown}', after which those that trap exits run their `terminate'; the others end
%%% by the signal `shutdown'. Who has not ended within `worker_shutdown' is killed.
-module(sockpool_worker).

-export([start/2, stop/3, stop_start/2, clean_up/3, fit/2]).

%% @doc Calls the pool's start function, in a process that traps exits.
-spec start(sockpool_opts:opts(), sockpool_nif:lease()) -> {ok, pid()} | {error, term()}.
start(#{worker := Callback, worker_shutdown := ShutdownMs}, Attempt) ->
    case started(Callback) of
        {ok, Worker} when is_pid(Worker), node(Worker) =:= node() ->
            begun(sockpool_nif:attempt_worker(Attempt, Worker), Worker, ShutdownMs);
        {error, Reason} ->
            {error, {worker, sockpool_reason:bounded(Reason)}};
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

%% @doc Has a worker of this pool end, in a process of its own, whose monitor this is. `none': there is no process
%% to be had, and the worker is killed.
-spec stop(Connector :: pid(), Worker :: pid(), timeout()) -> reference() | none.
stop(Connector, Worker, WithinMs) ->
    apart(fun() -> stopping([Worker], Connector, WithinMs) end, Worker).

%% @doc Kills a connector whose time is over, and has end what it has started so far.
-spec stop_start(Connector :: pid(), timeout()) -> reference() | none.
stop_start(Connector, WithinMs) ->
    apart(fun() -> stopping(orphaned(Connector), Connector, WithinMs) end, Connector).

%% @doc Both, of a pool whose process has crashed.
-spec clean_up(Connector :: pid(), Worker :: pid() | undefined, timeout()) -> reference() | none.
clean_up(Connector, undefined, WithinMs) ->
    stop_start(Connector, WithinMs);
clean_up(Connector, Worker, WithinMs) ->
    apart(fun() -> stopping(lists:usort([Worker | orphaned(Connector)]), Connector, WithinMs) end, Worker).

apart(Fun, Victim) ->
    try
        element(2, spawn_monitor(Fun))
    catch
        error:system_limit ->
            true = exit(Victim, kill),
            none
    end.

%% What it is linked to, and has spawned: not what it was linked to otherwise.
orphaned(Connector) ->
    Started = case process_info(Connector, links) of
                  {links, Links} -> [Pid || Pid <- Links, is_pid(Pid), process_info(Pid, parent) =:= {parent, Connector}];
                  undefined -> []
              end,
    true = exit(Connector, kill),
    Started.

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
