%%% @private
%%% Supervises the pools of the application environment and those of sockpool:start_pool/2, and the three
%%% processes that serve all of them. What belongs to one pool takes no other along, however often.
%%%
%%% It is no `supervisor'. That one counts the restarts of all its children together, and ends with all
%%% of them where there are many; and it starts and stops one child after the other, so that whoever is
%%% slow holds up the rest. Here a child that ends is started again for ever, after a pause that grows
%%% while it does not stay, and a start or a stop waits for nobody but its own pool. The answers to
%%% `supervisor:which_children/1' and `count_children/1' are a supervisor's.
-module(sockpool_sup).
-behaviour(gen_server).

%% format_status/2: only with that one may more be shown than the state, and OTP 25 looks there.
-compile(nowarn_deprecated_callback).

-export([start_link/0, start_pool/2, stop_pool/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/2]).

%% Before the nth restart in a row: none, then MIN, twice as much each time, at most MAX.
-define(MIN_PAUSE_MS, 50).
-define(MAX_PAUSE_MS, 1000).
%% Who runs so long has come to stay: what it does later is a new row.
-define(STAYS_MS, 10000).
%% From when a pool without a name was forgotten to when this process collects its garbage.
-define(COLLECT_MS, 1000).
%% Earlier where there are so many.
-define(COLLECT_EACH, 256).
%% How many since it did that.
-define(FORGOTTEN, '$sockpool_forgotten').
%% What a service gets to end. Then it is killed.
-define(STOP_MS, 5000).

-type id() :: {sockpool, sockpool_pool:id()} | sockpool_events | sockpool_janitor | sockpool_server | sockpool_http.
-type request() :: {start, sockpool_pool:id(), sockpool_opts:opts()} | {stop, sockpool_pool:id()}.

-record(child, {opts :: sockpool_opts:opts() | undefined,    % of a pool
                pid :: pid(),                                % the last one, while it waits
                phase :: starting | running | waiting | stopping,
                restarts = 0 :: non_neg_integer(),           % in a row
                timer :: reference() | undefined,
                starter :: gen_server:from() | undefined,
                stopper :: gen_server:from() | undefined,
                %% What was asked for while it stops, the last one first.
                pending = [] :: [{request(), gen_server:from()}]}).

-record(state, {children = #{} :: #{id() => #child{}},
                ids = #{} :: #{pid() => id()}}).

%% @doc Where a pool of the environment cannot be started, nothing is.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case {configured(application:get_env(sockpool, pools, #{})), sockpool_http:check()} of
        {{ok, Pools}, ok} -> start_link(Pools);
        {{error, _} = Error, _} -> Error;
        {_, {error, _} = Error} -> Error
    end.

start_link(Pools) ->
    case gen_server:start_link({local, ?MODULE}, ?MODULE, [], []) of
        {ok, Sup} ->
            Asked = [{Name, gen_server:send_request(Sup, {start, Name, Opts})} || {Name, Opts} <- Pools],
            case [{pool, Name, Reason} || {Name, {reply, {error, Reason}}} <- answers(Asked)] of
                [] -> {ok, Sup};
                [Bad | _] -> unlink(Sup), ok = gen_server:stop(Sup, shutdown, infinity), {error, Bad}
            end;
        {error, _} = Error ->
            Error
    end.

answers(Asked) ->
    [{Name, gen_server:wait_response(Request, infinity)} || {Name, Request} <- Asked].

%% Checked before anything is started, so that the application's start names the bad option.
configured(nil) ->
    {ok, []};
configured(Pools) ->
    case sockpool_given:map(Pools, []) of
        {ok, Given} -> parsed(maps:to_list(Given));
        error -> {error, {bad_option, pools, not_a_map}}
    end.

parsed(Pools) ->
    Parsed = [{Name, parsed(Name, Opts)} || {Name, Opts} <- Pools],
    case [{pool, Name, Reason} || {Name, {error, Reason}} <- Parsed] of
        [] -> {ok, [{Name, Opts} || {Name, {ok, Opts}} <- Parsed]};
        [Bad | _] -> {error, Bad}
    end.

parsed(Name, Opts) when is_atom(Name), Name =/= undefined -> sockpool_opts:parse(Name, Opts);
parsed(Name, _Opts) -> {error, {bad_argument, pool, Name}}.

%% @doc Returns when the pool is open and its files are read.
-spec start_pool(sockpool_pool:id(), sockpool_opts:opts()) -> {ok, pid()} | {error, term()}.
start_pool(Name, Opts) -> call({start, Name, Opts}, {error, {not_started, sockpool}}).

%% @doc Returns when everybody who has to do with the pool has been told.
-spec stop_pool(sockpool_pool:id()) -> ok | {error, not_found}.
stop_pool(Name) -> call({stop, Name}, {error, not_found}).

call(Request, NotThere) ->
    try
        gen_server:call(?MODULE, Request, infinity)
    catch
        exit:_ -> NotThere
    end.

-spec init([]) -> {ok, #state{}} | {stop, term()}.
init([]) ->
    process_flag(trap_exit, true),
    ok = sockpool_log_limit:new(),
    services(services(), #state{}).

%% The server before the pools: it stops after them, and their waiting clients hear why they end.
services() -> [sockpool_events, sockpool_janitor, sockpool_server | sockpool_http:services()].

services([], State) ->
    {ok, State};
services([Id | Rest], State) ->
    Child = #child{pid = self(), phase = starting},
    case spawn_child(Id, Child) of
        {ok, Pid} -> services(Rest, added(Id, Child#child{pid = Pid}, State));
        {error, Reason} -> {stop, {Id, Reason}}
    end.

-spec handle_call(term(), gen_server:from(), #state{}) ->
          {noreply, #state{}} | {reply, term(), #state{}}.
handle_call(which_children, _From, #state{children = Children} = State) ->
    {reply, [shown(Id, Child) || {Id, Child} <- maps:to_list(Children)], State};
handle_call(count_children, _From, #state{children = Children, ids = Ids} = State) ->
    Specs = map_size(Children),
    {reply, [{specs, Specs}, {active, map_size(Ids)}, {supervisors, 0}, {workers, Specs}], State};
handle_call({start, _Name, _Opts} = Request, From, State) ->
    {noreply, request(Request, From, State)};
handle_call({stop, _Name} = Request, From, State) ->
    {noreply, request(Request, From, State)};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

shown(Id, #child{phase = waiting}) -> {Id, restarting, worker, [module(Id)]};
shown(Id, #child{pid = Pid}) -> {Id, Pid, worker, [module(Id)]}.

module({sockpool, _Name}) -> sockpool_pool;
module(Service) -> Service.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({sockpool_pool, Pid, Result}, #state{ids = Ids} = State) when is_map_key(Pid, Ids) ->
    {noreply, told(maps:get(Pid, Ids), Result, State)};
handle_info({'EXIT', Pid, Reason}, #state{ids = Ids} = State) when is_map_key(Pid, Ids) ->
    {noreply, ended(maps:get(Pid, Ids), sockpool_reason:of_exit(Reason), State)};
handle_info({timeout, Timer, {What, Id}}, #state{children = Children} = State) ->
    case Children of
        #{Id := #child{timer = Timer} = Child} -> {noreply, timeout(What, Id, Child, State)};
        #{} -> {noreply, State}
    end;
handle_info(collect, State) ->
    true = erlang:garbage_collect(),
    _ = put(?FORGOTTEN, 0),
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.

%% The pools first, all at once.
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{ids = Ids, children = Children}) ->
    end_all([{Pid, stop_ms(maps:get(Id, Children))} || {Pid, Id} <- maps:to_list(Ids), not is_atom(Id)]),
    lists:foreach(fun(Service) -> end_all([{Pid, ?STOP_MS} || {Pid, Id} <- maps:to_list(Ids), Id =:= Service]) end,
                  lists:reverse(services())).

stop_ms(#child{opts = Opts}) -> sockpool_opts:stop_ms(Opts).

%% By monitors: the exit of one may have been heard already, by what crashed then.
end_all(Pids) ->
    Ends = [begin
                exit(Pid, shutdown),
                {Pid, monitor(process, Pid), sockpool_wait:deadline(WithinMs)}
            end || {Pid, WithinMs} <- Pids],
    lists:foreach(fun({Pid, Monitor, Deadline}) ->
                          receive {'DOWN', Monitor, process, _, _} -> ok
                          after sockpool_wait:left(Deadline) ->
                                  exit(Pid, kill),
                                  receive {'DOWN', Monitor, process, _, _} -> ok end
                          end
                  end, Ends).

%% As a supervisor shows itself, for supervisor:get_callback_module/1: the release handler asks.
-spec format_status(normal | terminate, [term()]) -> term().
format_status(_Why, [_Dictionary, State]) ->
    [{data, [{"State", State}]}, {supervisor, [{"Callback", ?MODULE}]}].

%%% What is asked for.

request({_, Name} = Request, From, State) -> request(Request, {sockpool, Name}, From, State);
request({_, Name, _} = Request, From, State) -> request(Request, {sockpool, Name}, From, State).

%% In the order in which they come: a start during a stop begins when that is over.
request(Request, Id, From, #state{children = Children} = State) ->
    case Children of
        #{Id := #child{phase = stopping, pending = Pending} = Child} ->
            keep(Id, Child#child{pending = [{Request, From} | Pending]}, State);
        #{Id := Child} ->
            known(Request, Id, Child, From, State);
        #{} ->
            unknown(Request, Id, From, State)
    end.

unknown({start, _, Opts}, Id, From, State) ->
    launch(Id, #child{opts = Opts, pid = self(), phase = starting, starter = From}, State);
unknown({stop, _}, _Id, From, State) ->
    gen_server:reply(From, {error, not_found}),
    State.

known({start, _, _}, _Id, #child{pid = Pid}, From, State) ->
    gen_server:reply(From, {error, {already_started, Pid}}),
    State;
known({stop, _}, Id, #child{phase = waiting} = Child, From, State) ->
    shut(Id, (no_timer(Child))#child{stopper = From}, State);
known({stop, _}, Id, #child{pid = Pid} = Child, From, State) ->
    exit(Pid, shutdown),
    stopping(Id, Child#child{stopper = From}, State).

%% It takes a process to shut the pool, which until then is one that has crashed, for everybody. It is stopped when it
%% has the pool.
shut(Id, #child{opts = Opts, stopper = Stopper} = Child, State) ->
    case spawn_child(Id, Child#child{opts = Opts#{start => async}}) of
        {ok, Pid} -> stopping(Id, Child#child{pid = Pid}, listed(Pid, Id, State));
        {error, _} -> answer(Stopper, ok), forget(Id, State)
    end.

stopping(Id, Child, State) ->
    Stopping = Child#child{phase = stopping},
    keep(Id, case stop_ms(Child) of
                 infinity -> no_timer(Stopping);
                 Ms -> timer(Ms, kill, Id, Stopping)
             end, State).

%%% Starting, and starting again.

launch(Id, Child, State) ->
    case spawn_child(Id, Child) of
        {ok, Pid} -> added(Id, Child#child{pid = Pid}, State);
        {error, Reason} -> failed(Id, Child, Reason, State)
    end.

%% A pool tells later how that went.
spawn_child({sockpool, Name}, #child{opts = Opts}) ->
    sockpool_pool:launch(Name, Opts);
spawn_child(Service, _Child) ->
    try
        Service:start_link()
    catch
        error:system_limit -> {error, system_limit}
    end.

added({sockpool, _} = Id, #child{pid = Pid} = Child, State) ->
    listed(Pid, Id, keep(Id, Child#child{phase = starting, timer = undefined}, State));
added(Service, #child{pid = Pid} = Child, State) ->
    listed(Pid, Service, keep(Service, running(Service, Child), State)).

running(Id, Child) -> timer(?STAYS_MS, stays, Id, Child#child{phase = running}).

told(Id, Result, #state{children = Children} = State) ->
    case {Result, Children} of
        {{error, {already_started, Last}}, #{Id := #child{phase = stopping, pid = Pid} = Child}} ->
            %% Where that one has just died the pool may not have heard of it.
            case is_process_alive(Last) of
                true -> State;
                false -> shut(Id, no_timer(Child), unlisted(Pid, State))
            end;
        {_, #{Id := #child{phase = stopping, pid = Pid}}} ->
            exit(Pid, shutdown),
            State;
        {ok, #{Id := #child{pid = Pid, starter = Starter} = Child}} ->
            answer(Starter, {ok, Pid}),
            keep(Id, running(Id, Child#child{starter = undefined}), State);
        {{error, Reason}, #{Id := #child{pid = Pid} = Child}} ->
            failed(Id, Child, Reason, unlisted(Pid, State))
    end.

ended(Id, Reason, #state{children = Children} = State) ->
    #{Id := #child{pid = Pid} = Child} = Children,
    Without = unlisted(Pid, State),
    case Child of
        #child{phase = stopping, starter = Starter, stopper = Stopper, pending = Pending} ->
            _ = no_timer(Child),
            answer(Starter, {error, draining}),
            answer(Stopper, ok),
            lists:foldr(fun({Request, From}, Next) -> request(Request, From, Next) end,
                        forget(Id, Without), Pending);
        #child{starter = undefined} ->
            ok = told_of_end(Id, Reason, Child),
            failed(Id, no_timer(Child), Reason, Without);
        #child{starter = Starter} ->
            %% It may have been open: what is left of it takes a process to shut.
            answer(Starter, {error, Reason}),
            shut(Id, Child#child{starter = undefined}, Without)
    end.

%% One that crashed has said so, if it was not killed.
told_of_end({sockpool, Name}, killed, #child{phase = running, opts = Opts}) ->
    sockpool_told:pool(crashed, Name, Opts, #{}, #{reason => killed});
told_of_end(_Id, _Reason, _Child) ->
    ok.

%% Who waits for its first start is told, and nothing else happens.
failed(Id, #child{starter = undefined, restarts = Restarts} = Child, Reason, State) ->
    PauseMs = pause_ms(Restarts),
    log(Restarts, Id, Reason),
    keep(Id, timer(PauseMs, start, Id, Child#child{phase = waiting, restarts = Restarts + 1}), State);
failed(Id, #child{starter = Starter}, Reason, State) ->
    answer(Starter, {error, Reason}),
    forget(Id, State).

pause_ms(0) -> 0;
pause_ms(Restarts) -> min(?MAX_PAUSE_MS, ?MIN_PAUSE_MS bsl min(Restarts - 1, 10)).

timeout(start, Id, Child, State) ->
    launch(Id, Child, State);
timeout(kill, _Id, #child{pid = Pid}, State) ->
    exit(Pid, kill),
    State;
timeout(stays, Id, #child{restarts = Restarts} = Child, State) ->
    _ = Restarts > 1 andalso sockpool_log:log(notice, (of_whom(Id))#{event => stays}),
    keep(Id, Child#child{restarts = 0, timer = undefined}, State).

%% Once when it begins to end, and once more where it does not stay: not at every restart.
log(0, Id, Reason) ->
    sockpool_log:log(error, (of_whom(Id))#{event => crashed, reason => Reason});
log(1, Id, Reason) ->
    sockpool_log:log(error, (of_whom(Id))#{event => crashed_again, reason => Reason, pause_ms => ?MAX_PAUSE_MS});
log(_Restarts, _Id, _Reason) ->
    ok.

of_whom({sockpool, Name}) -> #{pool => Name};
of_whom(Service) -> #{service => Service}.

%%% The tables.

keep(Id, Child, #state{children = Children} = State) -> State#state{children = Children#{Id => Child}}.

forget({sockpool, Pool} = Id, State) when is_reference(Pool) -> collect_later(without(Id, State));
forget(Id, State) -> without(Id, State).

without(Id, #state{children = Children} = State) -> State#state{children = maps:remove(Id, Children)}.

%% What was of a pool without a name is freed when nobody refers to it, and this process may have nothing to do for hours.
collect_later(State) ->
    Forgotten = case get(?FORGOTTEN) of undefined -> 0; Count -> Count end,
    _ = Forgotten =:= 0 andalso erlang:send_after(?COLLECT_MS, self(), collect),
    _ = Forgotten rem ?COLLECT_EACH =:= ?COLLECT_EACH - 1 andalso erlang:garbage_collect(),
    _ = put(?FORGOTTEN, Forgotten + 1),
    State.

listed(Pid, Id, #state{ids = Ids} = State) -> State#state{ids = Ids#{Pid => Id}}.

unlisted(Pid, #state{ids = Ids} = State) -> State#state{ids = maps:remove(Pid, Ids)}.

timer(Ms, What, Id, Child) ->
    (no_timer(Child))#child{timer = erlang:start_timer(Ms, self(), {What, Id})}.

no_timer(#child{timer = undefined} = Child) ->
    Child;
no_timer(#child{timer = Timer} = Child) ->
    _ = erlang:cancel_timer(Timer),
    Child#child{timer = undefined}.

answer(undefined, _Answer) -> ok;
answer(From, Answer) -> gen_server:reply(From, Answer).
