%%% Behind the Gleam module sockpool/worker: what a worker's start function has returned beside the pid.
%%%
%%% A pool knows its workers by their pids alone. What their users get, a Subject say, is in a table from the start of
%%% the worker to its end. One process has that table, for all pools; it starts with the first worker. Where
%%% it was killed, the workers that have lost their row are replaced at their check-out.
-module(sockpool_gleam_worker).
-behaviour(gen_server).

-export([keep/1, set_init/2, set_health/4, set_validate/2, with_worker/3, checkout/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-type result(Ok) :: {ok, Ok} | {error, term()}.

%% In the connector, whose end is then the worker's too if there is nobody to keep the data.
-spec keep(result({started, pid(), term()})) -> result(pid()).
keep({ok, {started, Worker, Data}}) ->
    ok = kept(Worker, Data),
    {ok, Worker};
keep({error, _} = Error) ->
    Error.

kept(Worker, Data) ->
    try
        gen_server:call(?MODULE, {keep, Worker, Data}, infinity)
    catch
        exit:{noproc, _} ->
            case gen_server:start({local, ?MODULE}, ?MODULE, [], []) of
                {ok, _} -> kept(Worker, Data);
                {error, {already_started, _}} -> kept(Worker, Data)
            end
    end.

-spec set_init(sockpool_gleam_ffi:options(), fun((Data) -> result(nil))) -> sockpool_gleam_ffi:options()
              when Data :: term().
set_init(Options, Run) ->
    set(Options, {init, fun(Worker) -> {ok, Data} = data(Worker), Run(Data) end}).

-spec set_health(sockpool_gleam_ffi:options(), fun((Data) -> result(nil)), integer(), integer()) -> sockpool_gleam_ffi:options()
              when Data :: term().
set_health(Options, Check, Interval, Timeout) ->
    set(Options, {health, {call, fun(Worker) -> {ok, Data} = data(Worker), Check(Data) end, Interval, Timeout}}).

-spec set_validate(sockpool_gleam_ffi:options(), fun((Data) -> boolean())) -> sockpool_gleam_ffi:options()
              when Data :: term().
set_validate(Options, IsFit) ->
    set(Options, {validate, fun(Worker) ->
                                    case data(Worker) of
                                        {ok, Data} -> IsFit(Data);
                                        error -> false
                                    end
                            end}).

set({options, Settings}, Setting) -> {options, [Setting | Settings]}.

-spec with_worker(atom(), sockpool_gleam_ffi:milliseconds(), fun((Data) -> A)) -> result(A) when Data :: term().
with_worker(Name, Timeout, Run) ->
    case checkout(Name, Timeout) of
        {ok, {worker, Conn, Data}} -> {ok, run(Conn, Data, Run)};
        {error, _} = Error -> Error
    end.

run(Conn, Data, Run) ->
    try Run(Data) of
        Result ->
            _ = sockpool:checkin(Conn),
            Result
    catch
        Class:Reason:Stack ->
            _ = sockpool:discard(Conn),
            erlang:raise(Class, Reason, Stack)
    end.

-spec checkout(atom(), sockpool_gleam_ffi:milliseconds()) -> result({worker, sockpool:conn(), Data :: term()}).
checkout(Name, Timeout) ->
    case sockpool_gleam_ffi:checkout(Name, Timeout) of
        {ok, Conn} -> with_data(Conn, sockpool:worker(Conn));
        {error, _} = Error -> Error
    end.

with_data(Conn, Worker) when is_pid(Worker) ->
    case data(Worker) of
        {ok, Data} ->
            {ok, {worker, Conn, Data}};
        error ->
            %% It has ended meanwhile, or its row is lost.
            _ = sockpool:discard(Conn),
            {error, closed}
    end;
with_data(Conn, {error, Reason}) ->
    _ = sockpool:checkin(Conn),
    {error, sockpool_gleam_ffi:reason(Reason)}.

data(Worker) ->
    try {ok, ets:lookup_element(?MODULE, Worker, 2)}
    catch error:badarg -> error
    end.

%%% Who has the table.

-spec init([]) -> {ok, nil}.
init([]) ->
    ?MODULE = ets:new(?MODULE, [named_table, protected, {read_concurrency, true}]),
    {ok, nil}.

-spec handle_call({keep, pid(), term()}, gen_server:from(), nil) -> {reply, ok, nil}.
handle_call({keep, Worker, Data}, _From, State) ->
    _ = monitor(process, Worker),
    true = ets:insert(?MODULE, {Worker, Data}),
    {reply, ok, State}.

-spec handle_cast(term(), nil) -> {noreply, nil}.
handle_cast(_Cast, State) -> {noreply, State}.

-spec handle_info(term(), nil) -> {noreply, nil}.
handle_info({'DOWN', _Monitor, process, Worker, _Reason}, State) ->
    true = ets:delete(?MODULE, Worker),
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.
