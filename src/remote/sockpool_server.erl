%%% @private
%%% Serves the pools of this node to other nodes, under the registered name `sockpool' and by the
%%% protocol of docs/cluster.md. It only routes and watches: whatever may take time is done by a
%%% process of sockpool_session, which also answers the client. So one slow client, pool or node does
%%% not hold up the others.
%%%
%%% It speaks gen_server's protocol but is none: gen_server crashes on malformed messages of that
%%% protocol, and this name is open to every program of the cluster.
-module(sockpool_server).

-export([start_link/0]).
-export([init/1, got/2, idle/1, loop/1]).
-export([system_continue/3, system_terminate/4, system_code_change/4]).

-include("../sockpool_lease.hrl").

-define(NAME, sockpool).
%% Many calls carry binaries through this process: a collection that keeps old ones would keep them
%% long after they were handed on.
-define(FULLSWEEP_AFTER, 20).

%% A second load of sockpool_wait ends whoever waits there.
-define(IDLE_MS, 1000).
%% When an answer is tried again for which there was no process.
-define(RETRY_MS, 100).

%% A process of sockpool_session.
-record(job, {%% Who is watched; `undefined' for calls about pools and over leases.
              client :: pid() | undefined,
              monitor :: reference() | undefined,
              id :: reference() | undefined,
              %% Of its lease, until that is given back.
              number :: pos_integer() | undefined,
              %% Where it was checked out; `undefined' too of a lease that code of before has given.
              pool :: atom(),
              %% The call that came last, to be answered where the process crashes.
              from :: gen_server:from()}).

-record(state, {parent :: pid(),
                incarnation = make_ref() :: reference(),
                next = 1 :: pos_integer(),
                jobs = #{} :: #{pid() => #job{}},
                ids = #{} :: #{reference() => pid()},
                leases = #{} :: #{pos_integer() => pid()},
                %% One for each job. A process that has been cut off may ask again, over the next connection, before
                %% the end of the last one is heard here: that ends only what it had then.
                monitors = #{} :: #{reference() => pid()}}).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    proc_lib:start_link(?MODULE, init, [self()], infinity,
                        [{message_queue_data, off_heap}, {fullsweep_after, ?FULLSWEEP_AFTER}]).

-spec init(pid()) -> no_return().
init(Parent) ->
    process_flag(trap_exit, true),
    try register(?NAME, self()) of
        true ->
            proc_lib:init_ack(Parent, {ok, self()}),
            wait(#state{parent = Parent})
    catch
        error:badarg ->
            Reason = {already_started, whereis(?NAME)},
            proc_lib:init_ack(Parent, {error, Reason}),
            exit(normal)
    end.

%% Not here: see sockpool_wait:next/3.
wait(State) -> sockpool_wait:next(?MODULE, State, ?IDLE_MS).

-spec got(term(), #state{}) -> no_return().
got({'$gen_call', {Pid, _Tag} = From, Request}, State) when is_pid(Pid) ->
    wait(request(Request, From, State));
got({'$gen_cast', {cancel, What}}, State) ->
    wait(cancel(What, fun retry/1, State));
got({'$sockpool_cancel', What}, State) ->
    wait(cancel(What, fun drop/1, State));
got({'DOWN', Monitor, process, _Client, _Reason}, State) ->
    wait(client_down(Monitor, State));
got({'$sockpool_over', Worker}, State) when is_map_key(Worker, State#state.jobs) ->
    wait(over(Worker, State));
got({'EXIT', Parent, Reason}, #state{parent = Parent}) ->
    exit(Reason);
got({'EXIT', Worker, Reason}, State) ->
    wait(ended(Worker, Reason, State));
got({'$sockpool_answer', From, Reply}, State) ->
    wait(answer(From, Reply, State));
got({system, {Pid, _Tag} = From, Request}, #state{parent = Parent} = State) when is_pid(Pid) ->
    sys:handle_system_msg(Request, From, Parent, ?MODULE, [], State);
got(_Unknown, State) ->
    wait(State).

%% Then it holds no code at all.
-spec idle(#state{}) -> no_return().
idle(State) -> proc_lib:hibernate(sockpool_wait, next, [?MODULE, State, ?IDLE_MS]).

%% Where code of before sockpool_wait:next/3 goes on, with its state.
-spec loop(tuple()) -> no_return().
loop(State) -> wait(of_now(State)).

%% The jobs did not know their pools, and there was one monitor for each client, in the place of `monitors'.
of_now(#state{jobs = Jobs, monitors = Monitors} = State) ->
    Now = maps:fold(fun job_of_now/3,
                    State#state{monitors = maps:filter(fun(_, Worker) -> is_pid(Worker) end, Monitors)}, Jobs),
    _ = [true = demonitor(Before, [flush]) || {Before, _Jobs} <- maps:values(Monitors)],
    Now.

job_of_now(_Worker, #job{}, State) -> State;
job_of_now(Worker, {job, undefined, _Id, _Number, From}, State) -> unwatched(Worker, From, State);
job_of_now(Worker, {job, Client, Id, Number, From}, State) ->
    hold(Client, Worker, #job{id = Id, number = Number, from = From}, State).

-spec system_continue(pid(), [sys:dbg_opt()], tuple()) -> no_return().
system_continue(_Parent, _Debug, State) -> wait(of_now(State)).

-spec system_terminate(term(), pid(), [sys:dbg_opt()], #state{}) -> no_return().
system_terminate(Reason, _Parent, _Debug, _State) -> exit(Reason).

-spec system_code_change(tuple(), module(), term(), term()) -> {ok, #state{}}.
system_code_change(State, _Module, _OldVersion, _Extra) -> {ok, of_now(State)}.

%%% Requests.

request({checkout, Id, Name, Timeout}, From, #state{ids = Ids} = State)
  when is_reference(Id), not is_map_key(Id, Ids), is_atom(Name) ->
    #state{incarnation = Incarnation, next = Number, leases = Leases} = State,
    Lease = ?LEASE(node(), Incarnation, Number),
    work(lease, [self(), From, Lease, Name, Timeout], From, State, fun(Worker) ->
        started(Worker, #job{id = Id, number = Number, pool = Name, from = From},
                State#state{next = Number + 1, leases = Leases#{Number => Worker}})
    end);
request({request, Id, Name, Data, Length, Timeout}, From, #state{ids = Ids} = State)
  when is_reference(Id), not is_map_key(Id, Ids), is_atom(Name) ->
    work(request, [From, Name, Data, Length, Timeout], From, State, fun(Worker) ->
        started(Worker, #job{id = Id, from = From}, State)
    end);
request({await_ready, Id, Name, Count, Timeout}, From, #state{ids = Ids} = State)
  when is_reference(Id), not is_map_key(Id, Ids), is_atom(Name) ->
    work(ready, [From, Name, Count, Timeout], From, State, fun(Worker) ->
        started(Worker, #job{id = Id, from = From}, State)
    end);
request({call, Id, Target, _Module, _Function, _Args, _Timeout} = Request, From, State)
  when is_reference(Id) ->
    over_node(Target, Request, Id, From, State);
request({send_to, Id, Target, _Destination, _Message, _Timeout} = Request, From, State)
  when is_reference(Id) ->
    over_node(Target, Request, Id, From, State);
request({timeouts, Name}, From, State) when is_atom(Name) ->
    answer(From, timeouts(Name), State);
request({timeouts, ?LEASE(_, Incarnation, Number)}, From,
        #state{incarnation = Incarnation, leases = Leases, jobs = Jobs} = State)
  when is_map_key(Number, Leases) ->
    #job{pool = Name} = maps:get(maps:get(Number, Leases), Jobs),
    answer(From, lease_timeouts(Name), State);
request({timeouts, ?LEASE(_)}, From, State) ->
    answer(From, {error, closed}, State);
request({stats, Name}, From, State) when is_atom(Name) ->
    answer(From, sockpool:stats(Name), State);
request({histograms, Name}, From, State) when is_atom(Name) ->
    answer(From, sockpool:histograms(Name), State);
request(Request, From, State) ->
    case kind(Request) of
        pools ->
            work(pools, [From, Request], From, State, fun(Worker) ->
                unwatched(Worker, From, State)
            end);
        {lease, Lease} ->
            case find(Lease, From, State) of
                {ok, Worker} -> lease_request(Request, Worker, From, State);
                Error -> answer(From, Error, State)
            end;
        unknown ->
            answer(From, {error, {bad_request, Request}}, State)
    end.

%% Where there is no process to be had, its client hears that.
work(Function, Args, From, State, Started) ->
    try spawn_link(sockpool_session, Function, Args) of
        Worker -> Started(Worker)
    catch
        error:system_limit -> answer(From, {error, system_limit}, State)
    end.

%% Where the pool is not known, the client waits for as long as the lease's process takes.
lease_timeouts(undefined) -> {ok, {infinity, infinity}};
lease_timeouts(Name) -> timeouts(Name).

timeouts(Name) ->
    case sockpool_pool:find(Name) of
        undefined -> {error, not_found};
        Pool -> {ok, {sockpool_nif:pool_checkout_timeout(Pool), sockpool_nif:pool_send_timeout(Pool)}}
    end.

%% What uses a pool is its caller's job, as a request is. What uses a lease lasts no longer than that,
%% whoever calls.
over_node(Name, Request, Id, From, #state{ids = Ids} = State)
  when is_atom(Name), not is_map_key(Id, Ids) ->
    work(over_pool, [From, Request], From, State, fun(Worker) ->
        started(Worker, #job{id = Id, from = From}, State)
    end);
over_node(?LEASE(_, Incarnation, Number), Request, _Id, From,
          #state{incarnation = Incarnation, leases = Leases} = State)
  when is_map_key(Number, Leases) ->
    Holder = maps:get(Number, Leases),
    work(over_lease, [Holder, From, Request], From, State, fun(Worker) ->
        unwatched(Worker, From, State)
    end);
over_node(?LEASE(_), _Request, _Id, From, State) ->
    answer(From, {error, closed}, State);
over_node(_Other, Request, _Id, From, State) ->
    answer(From, {error, {bad_request, Request}}, State).

kind(which_pools) -> pools;
kind(stats) -> pools;
kind({start_pool, _Name, _Opts}) -> pools;
kind({stop_pool, Name}) when is_atom(Name) -> pools;
kind({update, Name, _Changes}) when is_atom(Name) -> pools;
kind({Call, ?LEASE(_) = Lease}) ->
    lease_kind(lists:member(Call, [checkin, discard, info, peername, sockname, state]), Lease);
kind({checkin, ?LEASE(_) = Lease, clean}) -> {lease, Lease};
kind({discard, ?LEASE(_) = Lease, exception}) -> {lease, Lease};
kind({setopts, ?LEASE(_) = Lease, _Opts}) -> {lease, Lease};
kind({set_state, ?LEASE(_) = Lease, _Term}) -> {lease, Lease};
kind({give_away, ?LEASE(_) = Lease, Pid}) when is_pid(Pid) -> {lease, Lease};
kind({Call, ?LEASE(_) = Lease, _, _Timeout}) ->
    lease_kind(lists:member(Call, [send, recv, starttls]), Lease);
kind(_Request) -> unknown.

lease_kind(true, Lease) -> {lease, Lease};
lease_kind(false, _Lease) -> unknown.

%% A lease of another incarnation ended with that one.
find(?LEASE(_, Incarnation, Number), {Caller, _},
     #state{incarnation = Incarnation, leases = Leases, jobs = Jobs}) ->
    case Leases of
        #{Number := Worker} ->
            case Jobs of
                #{Worker := #job{client = Caller}} -> {ok, Worker};
                #{} -> {error, not_owner}
            end;
        #{} ->
            {error, closed}
    end;
find(_Lease, _From, _State) ->
    {error, closed}.

lease_request({give_away, _, Pid}, Worker, From, State) ->
    case node(Pid) =/= node() orelse is_process_alive(Pid) of
        true -> answer(From, ok, move(Worker, Pid, State));
        false -> answer(From, {error, noproc}, State)
    end;
lease_request({Call, _} = Request, Worker, From, State) when Call =:= checkin; Call =:= discard ->
    route(Request, Worker, From, unlisted(Worker, State));
lease_request({Call, _, _} = Request, Worker, From, State) when Call =:= checkin; Call =:= discard ->
    route(Request, Worker, From, unlisted(Worker, State));
lease_request(Request, Worker, From, State) ->
    route(Request, Worker, From, State).

route(Request, Worker, From, #state{jobs = Jobs} = State) ->
    Worker ! {'$sockpool_call', From, Request},
    #{Worker := Job} = Jobs,
    State#state{jobs = Jobs#{Worker := Job#job{from = From}}}.

%% This process must not wait for a node that does not read.
answer({To, Tag} = From, Reply, State) ->
    case erlang:send(sockpool_session:destination(To, Tag), {Tag, Reply}, [noconnect, nosuspend]) of
        nosuspend -> answer_elsewhere(From, Reply);
        _SentOrGone -> ok
    end,
    State.

answer_elsewhere(From, Reply) ->
    try
        _ = spawn(sockpool_session, reply, [From, Reply]),
        ok
    catch
        error:system_limit ->
            _ = erlang:send_after(?RETRY_MS, self(), {'$sockpool_answer', From, Reply}),
            ok
    end.

%%% Jobs and their clients.

started(Worker, #job{id = Id, from = {Client, _}} = Job, #state{ids = Ids} = State) ->
    hold(Client, Worker, Job, State#state{ids = Ids#{Id => Worker}}).

unwatched(Worker, From, #state{jobs = Jobs} = State) ->
    State#state{jobs = Jobs#{Worker => #job{from = From}}}.

move(Worker, Heir, #state{jobs = Jobs} = State) ->
    #{Worker := Job} = Jobs,
    Worker ! {'$sockpool_client', Heir},
    hold(Heir, Worker, Job, release(Job, State)).

hold(Client, Worker, Job, #state{jobs = Jobs, monitors = Monitors} = State) ->
    Monitor = monitor(process, Client),
    State#state{jobs = Jobs#{Worker => Job#job{client = Client, monitor = Monitor}},
                monitors = Monitors#{Monitor => Worker}}.

release(#job{monitor = undefined}, State) ->
    State;
release(#job{monitor = Monitor}, #state{monitors = Monitors} = State) ->
    true = demonitor(Monitor, [flush]),
    State#state{monitors = maps:remove(Monitor, Monitors)}.

%% From now on the lease is closed for every call; those that came before are with the worker.
unlisted(Worker, #state{jobs = Jobs, leases = Leases} = State) ->
    #{Worker := #job{number = Number} = Job} = Jobs,
    State#state{jobs = Jobs#{Worker := Job#job{number = undefined}},
                leases = maps:remove(Number, Leases)}.

forget(Worker, #job{id = Id, number = Number} = Job, State) ->
    #state{jobs = Jobs, ids = Ids, leases = Leases} = State,
    release(Job, State#state{jobs = maps:remove(Worker, Jobs),
                             ids = maps:remove(Id, Ids),
                             leases = maps:remove(Number, Leases)}).

%%% Ends.

%% The local pool does the rest: it drops a waiting request, takes an untouched connection back, and
%% closes a used one.
kill(Worker, #state{jobs = Jobs} = State) ->
    exit(Worker, kill),
    forget(Worker, maps:get(Worker, Jobs), State).

%% A cast may overtake its call, where they came from two processes and many send to this one. By the
%% second look that is here.
cancel(?LEASE(_, Incarnation, Number), _Unknown, #state{incarnation = Incarnation, leases = Leases} = State)
  when is_map_key(Number, Leases) ->
    kill(maps:get(Number, Leases), State);
cancel(Id, _Unknown, #state{ids = Ids} = State) when is_map_key(Id, Ids) ->
    kill(maps:get(Id, Ids), State);
cancel(What, Unknown, State) ->
    ok = Unknown(What),
    State.

retry(What) ->
    self() ! {'$sockpool_cancel', What},
    ok.

drop(_What) -> ok.

client_down(Monitor, #state{monitors = Monitors} = State) ->
    case Monitors of
        #{Monitor := Worker} -> kill(Worker, State);
        #{} -> State
    end.

over(Worker, State) ->
    Worker ! '$sockpool_over',
    unlisted(Worker, State).

ended(Worker, Reason, #state{jobs = Jobs} = State) ->
    case Jobs of
        #{Worker := #job{from = From} = Job} ->
            _ = Reason =:= normal orelse answer(From, {error, closed}, State),
            forget(Worker, Job, State);
        #{} ->
            State
    end.
