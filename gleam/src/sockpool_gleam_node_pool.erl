%%% Behind the Gleam module distribute/connection_pool: pools of connections to a node.
%%%
%%% Such a pool is called distribute_pool_N, with the lowest N that no running pool has, so that there
%%% are never more names (atoms, which stay) than there were pools at one time. A handle therefore says
%%% more than a name: it is good until its pool is destroyed, and as long as sockpool's supervisor, under
%%% which the pool is, is the same. Whoever has got a connection by the name looks once more whether the
%%% handle is good: if so, the name was this pool's all the time.
-module(sockpool_gleam_node_pool).

-export([open/1, stats/1, destroy/1, with_connection/2, send_batch/3, send_batch_parallel/3]).
-export([stress_test/3, call/5, send/3, send/4]).
-export_type([pool/0, connection/0]).

-include_lib("kernel/include/logger.hrl").

-record(pool, {name :: atom(),
               supervisor :: pid(),
               connections :: pos_integer(),
               state :: atomics:atomics_ref()}).
-opaque pool() :: #pool{}.
%% In `state':
-define(DESTROYED, 1).
-define(SUCCESSFUL, 2).
-define(FAILED, 3).

-record(connection, {conn :: sockpool:conn(),
                     %% 1: a call or a send over it had no answer
                     failed :: atomics:atomics_ref()}).
-opaque connection() :: #connection{}.

-type pool_error() :: pool_exhausted | connection_failed | invalid_config | invalid_pool.
-type result(Ok) :: {ok, Ok} | {error, pool_error()}.

-define(DEFAULT_CONNECT_TIMEOUT_MS, 5000).
%% How soon it shows that the node cannot be reached.
-define(FIRST_LOOK_MS, 50).
-define(STRESS_TIMEOUT_MS, 5000).

%%% The pool.

%% In a process of its own: where the caller is killed meanwhile, nobody would have the handle.
-spec open(sockpool_gleam_ffi:options()) -> result(pool()).
open(Options) ->
    Caller = self(),
    apart(fun() -> open(Caller, sockpool_gleam_ffi:map(Options)) end).

open(Caller, #{transport := node} = Opts) ->
    case application:ensure_all_started(sockpool) of
        {ok, _} -> connected(Caller, Opts, start(1, whereis(sockpool_sup), Opts));
        {error, _} -> {error, invalid_config}
    end;
open(_Caller, _Opts) ->
    {error, invalid_config}.

start(_N, undefined, _Opts) ->
    {error, invalid_config};
start(N, Supervisor, Opts) ->
    Name = binary_to_atom(<<"distribute_pool_", (integer_to_binary(N))/binary>>),
    case sockpool:stats(Name) of
        {ok, _} -> start(N + 1, Supervisor, Opts);
        {error, not_found} -> started(sockpool:start_pool(Name, Opts), Name, N, Supervisor, Opts)
    end.

started(ok, Name, _N, Supervisor, _Opts) ->
    case sockpool:stats(Name) of
        {ok, #{size := Size, max_overflow := Overflow}} ->
            {ok, #pool{name = Name, supervisor = Supervisor, connections = Size + Overflow,
                       state = atomics:new(3, [])}};
        {error, not_found} ->
            {error, connection_failed}
    end;
started({error, {already_started, _}}, _Name, N, Supervisor, Opts) ->
    start(N + 1, Supervisor, Opts);
started({error, already_started}, _Name, N, Supervisor, Opts) ->
    start(N + 1, Supervisor, Opts);
started({error, _}, _Name, _N, _Supervisor, _Opts) ->
    {error, invalid_config}.

connected(Caller, Opts, {ok, #pool{name = Name} = Pool}) ->
    Timeout = maps:get(connect_timeout, Opts, ?DEFAULT_CONNECT_TIMEOUT_MS),
    case first_connection(Name, Caller, now_ms() + Timeout) of
        ok ->
            {ok, Pool};
        {error, Reason} ->
            _ = destroy(Pool),
            %% The pool's own word for it may not be out yet when it is stopped.
            ?LOG_WARNING("no pool of ~ts: cannot connect: ~0tp", [maps:get(node, Opts), Reason]),
            {error, connection_failed}
    end;
connected(_Caller, _Opts, {error, _} = Error) ->
    Error.

%% An error at the deadline, or as soon as all attempts have failed or the caller is dead.
first_connection(Name, Caller, Deadline) ->
    Left = max(0, Deadline - now_ms()),
    Result = sockpool:checkout(Name, min(Left, ?FIRST_LOOK_MS)),
    case {is_process_alive(Caller), Result} of
        {true, {ok, Conn}} ->
            _ = sockpool:checkin(Conn),
            ok;
        {true, {error, Reason}} ->
            case Left > 0 andalso may_come(Name, Reason) of
                true -> first_connection(Name, Caller, Deadline);
                false -> {error, last(Reason)}
            end;
        {false, _} ->
            {error, noproc}
    end.

last({unavailable, Reason}) -> Reason;
last(Reason) -> Reason.

may_come(_Name, timeout) ->
    true;
may_come(_Name, closed) ->
    true;
may_come(Name, {unavailable, _}) ->
    case sockpool:stats(Name) of
        {ok, #{connecting := Connecting}} -> Connecting > 0;
        {error, not_found} -> false
    end;
may_come(_Name, _Reason) ->
    false.

is_good(#pool{supervisor = Supervisor, state = State}) ->
    atomics:get(State, ?DESTROYED) =:= 0 andalso whereis(sockpool_sup) =:= Supervisor.

-spec stats(pool()) -> result(tuple()).
stats(#pool{name = Name, state = State} = Pool) ->
    Stats = sockpool:stats(Name),
    case is_good(Pool) andalso Stats of
        {ok, #{total := Total, idle := Idle, leased := Leased}} ->
            {ok, {pool_stats, Total, Idle, Leased, atomics:get(State, ?FAILED),
                  atomics:get(State, ?SUCCESSFUL)}};
        _ ->
            {error, invalid_pool}
    end.

%% The mark first: after the stop the name may be another pool's.
-spec destroy(pool()) -> result(nil).
destroy(#pool{name = Name, state = State} = Pool) ->
    case is_good(Pool) andalso atomics:compare_exchange(State, ?DESTROYED, 0, 1) of
        ok ->
            case sockpool:stop_pool(Name) of
                ok -> {ok, nil};
                {error, not_found} -> {error, invalid_pool}
            end;
        _ ->
            {error, invalid_pool}
    end.

%%% Operations. Each is counted once: as failed where there was no connection, where the fun crashed, or
%%% where a call or a send in it had no answer.

-spec with_connection(pool(), fun((connection()) -> A)) -> result(A).
with_connection(Pool, Fun) ->
    counted_lease(Pool, leased(Pool, fun(Connection) -> counted(Pool, Connection, Fun) end)).

%% Over one connection, so that the node gets the messages in their order.
-spec send_batch(pool(), [M], fun((connection(), M) -> A)) -> result([A]).
send_batch(Pool, [], _Fun) ->
    case is_good(Pool) of
        true -> {ok, []};
        false -> {error, invalid_pool}
    end;
send_batch(Pool, Messages, Fun) ->
    SendAll = fun(Connection) -> send_all(Pool, Connection, Messages, Fun, []) end,
    case counted_lease(Pool, leased(Pool, SendAll)) of
        {ok, Result} -> Result;
        {error, _} = Error -> Error
    end.

send_all(_Pool, _Connection, [], _Fun, Results) ->
    {ok, lists:reverse(Results)};
send_all(Pool, Connection, [Message | Rest], Fun, Results) ->
    Result = counted(Pool, Connection, fun(_) -> Fun(Connection, Message) end),
    case has_failed(Connection) of
        false -> send_all(Pool, Connection, Rest, Fun, [Result | Results]);
        true -> {error, connection_failed}
    end.

-spec send_batch_parallel(pool(), [M], fun((connection(), M) -> A)) ->
          result({batch_result, [A], [{non_neg_integer(), pool_error()}]}).
send_batch_parallel(#pool{connections = Connections} = Pool, Messages, Fun) ->
    case is_good(Pool) of
        true ->
            Runs = [fun() -> send_one(Pool, Message, Fun) end || Message <- Messages],
            Outcomes = parallel(Runs, Connections, fun(Outcome) -> count_outcome(Pool, Outcome) end),
            {ok, {batch_result, [Result || {ok, Result} <- Outcomes],
                  [{N - 1, Reason} || {N, {error, Reason}} <- lists:enumerate(Outcomes)]}};
        false ->
            {error, invalid_pool}
    end.

send_one(Pool, Message, Fun) ->
    Send = fun(Connection) ->
        Result = Fun(Connection, Message),
        case has_failed(Connection) of
            false -> {ok, Result};
            true -> {error, connection_failed}
        end
    end,
    case leased(Pool, Send) of
        {ok, Outcome} -> Outcome;
        {error, _} = Error -> Error
    end.

%% In the process that watches, because the other one may have been killed.
count_outcome(Pool, {ok, _}) -> count(Pool, ?SUCCESSFUL);
count_outcome(Pool, {error, _}) -> count(Pool, ?FAILED).

-spec stress_test(pool(), integer(), integer()) -> result(tuple()).
stress_test(_Pool, Operations, Workers) when Operations < 0; Workers < 0 ->
    {error, invalid_config};
stress_test(Pool, Operations, Workers) ->
    Work = fun() -> round_trips(Pool, Operations) end,
    case is_good(Pool) of
        true ->
            _ = parallel(lists:duplicate(Workers, Work), Workers, fun(_) -> ok end),
            stats(Pool);
        false ->
            {error, invalid_pool}
    end.

round_trips(_Pool, 0) ->
    ok;
round_trips(Pool, Left) ->
    Trip = fun(Connection) -> do_call(Connection, erlang, node, [], ?STRESS_TIMEOUT_MS) end,
    case with_connection(Pool, Trip) of
        {error, invalid_pool} -> ok;
        _ -> round_trips(Pool, Left - 1)
    end.

%% What the fun returns. The connection goes back, whatever happens.
leased(Pool, Fun) ->
    case checkout(Pool) of
        {ok, Conn} ->
            try Fun(#connection{conn = Conn, failed = atomics:new(1, [])}) of
                Result ->
                    _ = sockpool:checkin(Conn),
                    {ok, Result}
            catch
                Class:Reason:Stack ->
                    _ = sockpool:discard(Conn),
                    erlang:raise(Class, Reason, Stack)
            end;
        {error, _} = Error ->
            Error
    end.

counted_lease(_Pool, {ok, _} = Result) ->
    Result;
counted_lease(Pool, {error, _} = Error) ->
    count(Pool, ?FAILED),
    Error.

checkout(#pool{name = Name} = Pool) ->
    Result = case is_good(Pool) of
                 true -> sockpool:checkout(Name);
                 false -> {error, not_found}
             end,
    case {Result, is_good(Pool)} of
        {{ok, _}, true} ->
            Result;
        {{ok, Conn}, false} ->
            _ = sockpool:checkin(Conn),
            {error, invalid_pool};
        {{error, _}, false} -> {error, invalid_pool};
        {{error, Reason}, true} -> {error, no_connection(Reason)}
    end.

no_connection(timeout) -> pool_exhausted;
no_connection(full) -> pool_exhausted;
no_connection(not_found) -> invalid_pool;
no_connection(draining) -> invalid_pool;
no_connection(_) -> connection_failed.

counted(Pool, Connection, Fun) ->
    try Fun(Connection) of
        Result ->
            count(Pool, case has_failed(Connection) of true -> ?FAILED; false -> ?SUCCESSFUL end),
            Result
    catch
        Class:Reason:Stack ->
            count(Pool, ?FAILED),
            erlang:raise(Class, Reason, Stack)
    end.

count(#pool{state = State}, What) -> atomics:add(State, What, 1).

has_failed(#connection{failed = Failed}) -> atomics:get(Failed, 1) =:= 1.

%%% On a connection.

-spec call(connection(), binary(), binary(), [term()], sockpool_gleam_ffi:milliseconds()) ->
          {ok, term()} | {error, term()}.
call(Connection, Module, Function, Args, Timeout) ->
    Result = do_call(Connection, sockpool_gleam_ffi:named(Module), sockpool_gleam_ffi:named(Function),
                     Args, sockpool_gleam_ffi:ms(Timeout)),
    sockpool_gleam_ffi:result(Result).

do_call(#connection{conn = Conn} = Connection, Module, Function, Args, Timeout) ->
    noted(sockpool:call(Conn, Module, Function, Args, Timeout), Connection).

-spec send(connection(), binary(), term()) -> {ok, nil} | {error, term()}.
send(#connection{conn = Conn} = Connection, Name, Message) ->
    Result = sockpool:send_to(Conn, sockpool_gleam_ffi:named(Name), Message),
    sockpool_gleam_ffi:result(noted(Result, Connection)).

-spec send(connection(), binary(), term(), sockpool_gleam_ffi:milliseconds()) -> {ok, nil} | {error, term()}.
send(#connection{conn = Conn} = Connection, Name, Message, Timeout) ->
    Result = sockpool:send_to(Conn, sockpool_gleam_ffi:named(Name), Message, sockpool_gleam_ffi:ms(Timeout)),
    sockpool_gleam_ffi:result(noted(Result, Connection)).

%% A time-out, a closed connection, POSIX codes. An exception there is an answer.
noted({error, Reason} = Error, #connection{failed = Failed})
  when is_atom(Reason), Reason =/= busy, Reason =/= bad_reply ->
    atomics:put(Failed, 1, 1),
    Error;
noted(Result, _Connection) ->
    Result.

%%% Processes.

%% What the fun returns, which runs in another process.
apart(Fun) ->
    {_, Monitor} = spawn_monitor(fun() -> exit({?MODULE, Fun()}) end),
    receive
        {'DOWN', Monitor, process, _, {?MODULE, Result}} -> Result;
        {'DOWN', Monitor, process, _, Reason} -> exit(Reason)
    end.

%% Runs the funs in processes of their own, at most `Limit' at a time, and `Note' with each outcome.
%% The outcomes in order: what a fun returned, or an error where its process ended before that. All of
%% them end with the caller.
parallel(Runs, Limit, Note) ->
    Caller = self(),
    apart(fun() ->
        _ = process_flag(trap_exit, true),
        Monitor = monitor(process, Caller),
        Done = run(lists:enumerate(Runs), #{}, #{}, {Limit, Note, Monitor}),
        [Outcome || {_N, Outcome} <- lists:sort(maps:to_list(Done))]
    end).

run([], Running, Done, _Job) when map_size(Running) =:= 0 ->
    Done;
run([{N, Run} | Rest], Running, Done, {Limit, _, _} = Job) when map_size(Running) < Limit ->
    Parent = self(),
    Pid = spawn_link(fun() -> Parent ! {done, self(), Run()} end),
    run(Rest, Running#{Pid => N}, Done, Job);
run(Runs, Running, Done, {_, _, Monitor} = Job) ->
    receive
        {done, Pid, Outcome} -> ended(Pid, Outcome, Runs, Running, Done, Job);
        {'EXIT', Pid, _Reason} when is_map_key(Pid, Running) ->
            ended(Pid, {error, connection_failed}, Runs, Running, Done, Job);
        {'EXIT', _Pid, _Reason} -> run(Runs, Running, Done, Job);
        {'DOWN', Monitor, process, _, _} -> exit(shutdown)
    end.

ended(Pid, Outcome, Runs, Running, Done, {_, Note, _} = Job) ->
    {N, StillRunning} = maps:take(Pid, Running),
    Note(Outcome),
    run(Runs, StillRunning, Done#{N => Outcome}, Job).

now_ms() -> erlang:monotonic_time(millisecond).
