%%% @private
%%% A leased connection to a node, and the process that reads it. The process is made at check-out and
%%% gets the lease; it sends the frames that callers have encoded, gives each reply to its caller, which
%%% decodes it, and answers ticks while nobody calls. It ends with the lease. What a frame means says
%%% sockpool_dist, as it does for sockpool_node_call, whose head says why there are two ways of reading.
%%%
%%% Its callers wait for it in a gen_server:call, and no longer than it lives; it waits for nothing but its next
%%% message. What it cannot send has the pool's `send_timeout'.
%%%
%%% At rest it has an armed select for reading. To send, it takes that back. Where the socket is full it
%%% has one for writing, and looks for what has come whenever it may write.
-module(sockpool_node_conn).
-behaviour(gen_server).

-include("../sockpool_lease.hrl").

-export([start/1, finish/4, call/5, send_to/4, checkin/1, discard/1, discard/2, give_away/2]).
-export([info/1, peername/1, sockname/1, setopt/3]).
-export([init/1, become/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([conn/0]).

-type conn() :: ?NODE_CONN(pid(), node(), sockpool_dist:identity(), atomics:atomics_ref(),
                           pos_integer()).

%% For what never waits there.
-define(LIMIT_MS, 5000).
%% Frames that are handled before others in the mailbox have their turn.
-define(FRAMES_PER_TURN, 32).
%% A frame of this size is not kept alive until this process happens to be garbage collected.
-define(LARGE_BYTES, 1048576).
%% A node takes for dead who is silent for its tick time; while it sends without a pause it sends no
%% ticks that would be answered.
-define(SILENT_MS, 200).
%% In the atomics: calls under way, the number of the last one.
-define(INFLIGHT, 1).
-define(NUMBER, 2).

-record(state, {lease :: sockpool_nif:lease() | undefined, % undefined: it is over
                owner :: {pid(), reference()},
                identity :: sockpool_dist:identity(),
                counters :: atomics:atomics_ref(),
                max :: pos_integer(),
                calls = #{} :: #{pos_integer() => gen_server:from()},
                queue = queue:new() :: queue:queue({iodata(), gen_server:from() | undefined}),
                %% what is being sent: all but the first has its header, as it is
                sending :: {[binary()], non_neg_integer(), gen_server:from() | undefined} | undefined,
                armed :: {read | write, reference()} | undefined,
                deadline :: reference() | undefined,        % of what is being sent
                spoke_ms :: integer(),
                %% how the lease ended: what its owner hears who gives it back
                ended :: ok | {error, term()} | undefined}).

%%% For the owner.

%% @doc Gives the caller's lease to a process of its own.
-spec start(sockpool_nif:lease()) -> {ok, conn()} | {error, term()}.
start(Lease) ->
    case sockpool_nif:node_names(Lease) of
        {ok, Node, Name, Creation, Max} ->
            Identity = sockpool_dist:identity(Name, Creation),
            Counters = atomics:new(2, []),
            try spawn_reader(Lease, Identity, Counters, Max) of
                Reader ->
                    case given(Lease, Reader, given) of
                        ok -> {ok, ?NODE_CONN(Reader, Node, Identity, Counters, Max)};
                        Error -> Error
                    end
            catch
                error:system_limit ->
                    _ = sockpool_nif:checkin(Lease),
                    {error, system_limit}
            end;
        {error, _} = Error ->
            Error
    end.

spawn_reader(Lease, Identity, Counters, Max) ->
    State = #state{lease = Lease, owner = {self(), make_ref()}, identity = Identity,
                   counters = Counters, max = Max, spoke_ms = now_ms()},
    proc_lib:spawn(?MODULE, become, [self(), State]).

given(Lease, Reader, How) ->
    case sockpool_nif:give_away(Lease, Reader) of
        ok ->
            Reader ! {self(), How},
            ok;
        {error, _} = Error ->
            true = exit(Reader, kill),
            Error
    end.

%% @doc Waits for the end of a call that sockpool_node_call has sent as number 1, and gives the connection
%% back. Its function prints or reads: what that is for may answer late, or never.
-spec finish(sockpool_nif:lease(), sockpool_dist:identity(), sockpool_dist:io_request(), sockpool_wait:deadline()) ->
          {ok, term()} | {error, term()}.
finish(Lease, Identity, Io, Deadline) ->
    try spawn_reader(Lease, Identity, atomics:new(2, []), 1) of
        Reader -> finish_by(Reader, Lease, Io, Deadline)
    catch
        error:system_limit ->
            _ = sockpool_nif:discard(Lease, io_error),
            {error, system_limit}
    end.

finish_by(Reader, Lease, Io, Deadline) ->
    Asked = sockpool_wait:asked(Reader),
    case given(Lease, Reader, {given, sockpool_wait:from(Asked), Io}) of
        ok ->
            finished(sockpool_wait:wait_on(Asked, sockpool_wait:left(Deadline)), Reader);
        Error ->
            _ = sockpool_wait:give_up(Asked),
            Error
    end.

finished({answer, Outcome}, Reader) ->
    _ = ask(Reader, checkin, ?LIMIT_MS),
    sockpool_dist:result(1, Outcome);
finished({silent, Asked}, Reader) ->
    case sockpool_wait:give_up(Asked) of
        {answer, _} = Answer ->
            finished(Answer, Reader);
        given_up ->
            _ = ask(Reader, {discard, io_timeout}, ?LIMIT_MS),
            {error, timeout}
    end;
finished({down, _}, _Reader) ->
    {error, closed}.

-spec checkin(conn()) -> ok | {error, term()}.
checkin(?NODE_CONN(Reader)) -> ask(Reader, checkin, ?LIMIT_MS).

-spec discard(conn()) -> ok | {error, term()}.
discard(Conn) -> discard(Conn, discarded).

-spec discard(conn(), Why :: atom()) -> ok | {error, term()}.
discard(?NODE_CONN(Reader), Why) -> ask(Reader, {discard, Why}, ?LIMIT_MS).

-spec give_away(conn(), pid()) -> ok | {error, term()}.
give_away(?NODE_CONN(Reader), Pid) -> ask(Reader, {give_away, Pid}, ?LIMIT_MS).

-spec info(conn()) -> {ok, map()} | {error, term()}.
info(?NODE_CONN(Reader)) -> ask(Reader, {look, info, []}, ?LIMIT_MS).

-spec peername(conn()) -> {ok, term()} | {error, term()}.
peername(?NODE_CONN(Reader)) -> ask(Reader, {look, peername, []}, ?LIMIT_MS).

-spec sockname(conn()) -> {ok, term()} | {error, term()}.
sockname(?NODE_CONN(Reader)) -> ask(Reader, {look, sockname, []}, ?LIMIT_MS).

-spec setopt(conn(), term(), term()) -> ok | badarg | {error, term()}.
setopt(_Conn, packet, _Value) -> badarg;
setopt(?NODE_CONN(Reader), Key, Value) -> ask(Reader, {look, setopt, [Key, Value]}, ?LIMIT_MS).

%%% For everybody who has the connection.

-spec call(conn(), module(), atom(), [term()], timeout()) -> {ok, term()} | {error, term()}.
call(?NODE_CONN(Reader) = Conn, _Module, _Function, _Args, _Timeout) when node(Reader) =/= node() ->
    {error, {bad_argument, conn, Conn}};
call(?NODE_CONN(Reader, _Node, Identity, Counters, Max), Module, Function, Args, Timeout) ->
    %% Only the reader counts: who dies before it has heard of the call has none.
    case atomics:get(Counters, ?INFLIGHT) < Max of
        true ->
            Call = atomics:add_get(Counters, ?NUMBER, 1),
            Frame = sockpool_dist:call(Identity, Call, Module, Function, Args),
            sockpool_dist:result(Call, ask(Reader, {call, Call, Frame}, Timeout));
        false ->
            {error, case is_process_alive(Reader) of true -> busy; false -> closed end}
    end.

%% @doc Returns when the operating system has the message. By default the connection is closed where it
%% takes none for the pool's `send_timeout'.
-spec send_to(conn(), term(), term(), timeout() | default) -> ok | {error, term()}.
send_to(Conn, To, Message, default) ->
    send_to(Conn, To, Message, infinity);
send_to(?NODE_CONN(Reader, Node, Identity, _, _), To, Message, Timeout) ->
    case sockpool_dist:message(Identity, Node, To, Message) of
        {ok, Frame} -> ask(Reader, {send, Frame}, Timeout);
        {error, _} = Error -> Error
    end.

ask(Reader, Request, Timeout) ->
    try
        gen_server:call(Reader, Request, Timeout)
    catch
        exit:{timeout, _} -> {error, timeout};
        exit:_ -> {error, closed}
    end.

%%% The process.

-spec init(term()) -> {stop, not_started_so}.
init(_) -> {stop, not_started_so}.

%% @doc Begins when the lease is this process's. Where the owner died before that, the pool sees to it.
-spec become(pid(), #state{}) -> no_return().
become(Owner, #state{owner = {Owner, _}} = State) ->
    Monitor = monitor(process, Owner),
    receive
        {Owner, given} ->
            gen_server:enter_loop(?MODULE, [], look(State#state{owner = {Owner, Monitor}}));
        {Owner, {given, From, Io}} ->
            Calling = calling(1, From, State#state{owner = {Owner, Monitor}}),
            gen_server:enter_loop(?MODULE, [], look(forward(Io, Calling)));
        {'DOWN', Monitor, process, _, _} = Down ->
            %% Given or not: the message that says so would have come before.
            self() ! Down,
            gen_server:enter_loop(?MODULE, [], State#state{owner = {Owner, Monitor}})
    end.

-spec handle_call(term(), gen_server:from(), #state{}) ->
          {noreply, #state{}} | {reply, term(), #state{}} | {stop, normal, term(), #state{}}.
handle_call({call, _, _}, _From, #state{lease = undefined} = State) ->
    {reply, {error, closed}, State};
handle_call({call, _, _}, _From, #state{calls = Calls, max = Max} = State) when map_size(Calls) >= Max ->
    {reply, {error, busy}, State};
handle_call({call, Call, Frame}, From, State) ->
    {noreply, enqueue(Frame, undefined, calling(Call, From, State))};
handle_call({send, _}, _From, #state{lease = undefined} = State) ->
    {reply, {error, closed}, State};
handle_call({send, Frame}, From, State) ->
    {noreply, enqueue(Frame, From, State)};
handle_call(_Request, {Pid, _}, #state{owner = {Owner, _}} = State) when Pid =/= Owner ->
    {reply, {error, not_owner}, State};
handle_call(checkin, _From, State) ->
    #state{ended = Ended} = Over = give_back(State),
    {stop, normal, Ended, Over};
handle_call({discard, Why}, _From, State) ->
    #state{ended = Ended} = Over = close(closed, Why, State),
    {stop, normal, Ended, Over};
handle_call(_Request, _From, #state{lease = undefined} = State) ->
    {reply, {error, closed}, State};
handle_call({give_away, Pid}, _From, State) ->
    give_to(is_process_alive(Pid), Pid, State);
handle_call({look, Function, Args}, _From, #state{lease = Lease} = State) ->
    {reply, try apply(sockpool_nif, Function, [Lease | Args]) catch error:badarg -> badarg end, State}.

calling(Call, From, #state{calls = Calls, counters = Counters} = State) ->
    atomics:add(Counters, ?INFLIGHT, 1),
    State#state{calls = Calls#{Call => From}}.

give_to(false, _Pid, State) ->
    {reply, {error, noproc}, State};
give_to(true, Pid, #state{owner = {_, Monitor}} = State) ->
    true = demonitor(Monitor, [flush]),
    {reply, ok, State#state{owner = {Pid, monitor(process, Pid)}}}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Cast, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_info({'$sockpool', Ref, What}, #state{armed = {_, Ref}, lease = Lease} = State) ->
    _ = sockpool_nif:fired(Lease),
    Disarmed = State#state{armed = undefined},
    {noreply, case What of ready -> go_on(Disarmed); closed -> close(closed, Disarmed) end};
handle_info(go_on, #state{lease = Lease} = State) when Lease =/= undefined ->
    {noreply, go_on(State)};
handle_info({timeout, Timer, sending}, #state{deadline = Timer} = State) ->
    {noreply, close(timeout, State)};
handle_info({io_reply, {From, _} = To, Reply}, #state{lease = Lease, identity = Identity} = State)
  when Lease =/= undefined, is_pid(From) ->
    {noreply, enqueue(sockpool_dist:io_reply(Identity, To, Reply), undefined, State)};
handle_info({'DOWN', Monitor, process, _, _}, #state{owner = {_, Monitor}} = State) ->
    {stop, normal, case is_idle(State) of true -> give_back(State); false -> abandon(State) end};
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, State) ->
    _ = close(closed, State),
    ok.

%%% The end of the lease.

%% Clean only where nothing is under way: what came late would reach the next.
give_back(State) ->
    case is_idle(State) of
        true -> check_in(park(State));
        false -> close(closed, unanswered, State)
    end.

is_idle(#state{calls = Calls, sending = Sending, queue = Queue}) ->
    map_size(Calls) =:= 0 andalso Sending =:= undefined andalso queue:is_empty(Queue).

check_in(#state{lease = undefined} = State) ->
    State;
check_in(#state{lease = Lease} = State) ->
    State#state{lease = undefined, ended = sockpool_nif:checkin(Lease)}.

close(Reason, State) -> close(Reason, sockpool_reason:why(Reason), State).

close(Reason, Why, State) -> over(Reason, fun(Lease) -> sockpool_nif:discard(Lease, Why) end, State).

%% The lease is left to the pool, which takes it from this process as from any that dies.
abandon(State) -> over(closed, fun(_Lease) -> ok end, State).

over(_Reason, _End, #state{lease = undefined} = State) ->
    State;
over(Reason, End, #state{calls = Calls, queue = Queue, sending = Sending, counters = Counters} = State) ->
    #state{lease = Lease} = no_deadline(park(State)),
    Ended = End(Lease),
    atomics:sub(Counters, ?INFLIGHT, map_size(Calls)),
    Waiting = maps:values(Calls) ++ [From || {_, From} <- queue:to_list(Queue)]
        ++ [From || {_, _, From} <- [Sending]],
    lists:foreach(fun(From) -> From =:= undefined orelse gen_server:reply(From, {error, Reason}) end,
                  Waiting),
    State#state{lease = undefined, ended = Ended, calls = #{}, queue = queue:new(),
                sending = undefined, armed = undefined, deadline = undefined}.

%%% Sending and receiving.

%% Takes back the select, if there is one.
park(#state{armed = undefined} = State) ->
    State;
park(#state{armed = {_, Ref}, lease = Lease} = State) ->
    _ = case sockpool_nif:park(Lease) of
            fired ->
                %% It is there, or under way from the thread that polls.
                receive
                    {'$sockpool', Ref, _} -> sockpool_nif:fired(Lease)
                after ?LIMIT_MS ->
                    exit(not_fired)
                end;
            _ ->
                ok
        end,
    State#state{armed = undefined}.

enqueue(Frame, From, #state{queue = Queue, armed = Armed} = State) ->
    Queued = State#state{queue = queue:in({Frame, From}, Queue)},
    case Armed of
        {write, _} -> Queued;
        _ -> go_on(Queued)
    end.

%% Sends what can be sent; then looks for what has come. While the socket is full it looks before, too:
%% otherwise nothing would be read until all was sent.
go_on(State) ->
    case park(State) of
        #state{sending = undefined} = Parked -> look(write(Parked));
        Parked -> look(write(peek(Parked, ?FRAMES_PER_TURN)))
    end.

write(#state{lease = undefined} = State) ->
    State;
write(#state{sending = undefined, queue = Queue} = State) ->
    case queue:out(Queue) of
        {{value, {Frame, From}}, Rest} ->
            send(erlang:iolist_to_iovec(Frame), 0, false, From, State#state{queue = Rest});
        {empty, _} ->
            State
    end;
write(#state{sending = {Iovec, Offset, From}} = State) ->
    send(Iovec, Offset, true, From, State#state{sending = undefined}).

send(Iovec, Offset, Framed, From, #state{lease = Lease} = State) ->
    Ref = make_ref(),
    case sockpool_nif:send(Lease, Iovec, Offset, Framed, again, Ref) of
        ok ->
            _ = From =/= undefined andalso gen_server:reply(From, ok),
            write(no_deadline(State#state{spoke_ms = now_ms()}));
        {wait, Rest, NextOffset} ->
            deadline(State#state{sending = {Rest, NextOffset, From}, armed = {write, Ref}});
        {again, Rest, NextOffset} ->
            self() ! go_on,
            no_deadline(State#state{sending = {Rest, NextOffset, From}, spoke_ms = now_ms()});
        many ->
            send([iolist_to_binary(Iovec)], Offset, Framed, From, State);
        {error, Reason} ->
            close(Reason, State#state{sending = {[], 0, From}})
    end.

%% From when nothing more can be sent until something can.
deadline(#state{deadline = undefined, lease = Lease} = State) ->
    case sockpool_nif:send_timeout(Lease) of
        Ms when is_integer(Ms) -> State#state{deadline = erlang:start_timer(Ms, self(), sending)};
        _Infinity -> State
    end;
deadline(State) ->
    State.

no_deadline(#state{deadline = undefined} = State) ->
    State;
no_deadline(#state{deadline = Timer} = State) ->
    _ = erlang:cancel_timer(Timer),
    State#state{deadline = undefined}.

look(State) -> look(State, ?FRAMES_PER_TURN).

look(#state{lease = undefined} = State, _Left) ->
    State;
look(#state{armed = {write, _}} = State, _Left) ->
    State;
look(State, 0) ->
    self() ! go_on,
    State;
look(#state{lease = Lease} = State, Left) ->
    Ref = make_ref(),
    case sockpool_nif:recv(Lease, packet, again, Ref) of
        {ok, Frame} -> look(take(Frame, State), Left - 1);
        wait -> State#state{armed = {read, Ref}};
        again -> look(State, 0);
        {error, Reason} -> close(Reason, State)
    end.

%% As look/2, without a select at the end.
peek(#state{lease = Lease} = State, Left) when Lease =/= undefined, Left > 0 ->
    case sockpool_nif:recv(Lease, packet, first, make_ref()) of
        {ok, Frame} -> peek(take(Frame, State), Left - 1);
        {error, Reason} -> close(Reason, State);
        _Nothing -> State
    end;
peek(State, _Left) ->
    State.

take(Frame, #state{identity = Identity} = State) ->
    Taken = taken(sockpool_dist:incoming(Identity, Frame), State),
    _ = byte_size(Frame) >= ?LARGE_BYTES andalso erlang:garbage_collect(),
    tick_if_silent(Taken).

taken({ended, Call, Outcome}, State) -> answer(Call, Outcome, State);
taken({io, Request}, State) -> forward(Request, State);
taken({say, Answer}, State) -> say(Answer, State);
taken(tick, State) -> tick(State);
taken(nothing, State) -> State.

answer(Call, Reply, #state{calls = Calls, counters = Counters} = State) ->
    case maps:take(Call, Calls) of
        {From, Rest} ->
            atomics:sub(Counters, ?INFLIGHT, 1),
            gen_server:reply(From, Reply),
            State#state{calls = Rest};
        error ->
            State
    end.

%% What a function prints is for the group leader of whoever checked the connection out. That one may be
%% dead, or on a node to which nothing more can be sent; nobody waits for that here.
forward({From, ReplyAs, Request}, #state{identity = Identity} = State) ->
    Leader = group_leader(),
    Sent = (node(Leader) =/= node() orelse is_process_alive(Leader))
        andalso erlang:send(Leader, {io_request, self(), {From, ReplyAs}, Request}, [nosuspend, noconnect]),
    case Sent of
        ok -> State;
        _ -> say(sockpool_dist:io_reply(Identity, {From, ReplyAs}, {error, terminated}), State)
    end.

tick_if_silent(#state{spoke_ms = Spoke} = State) ->
    case now_ms() - Spoke > ?SILENT_MS of
        true -> tick(State);
        false -> State
    end.

%% Whatever is under way to the node is as good as a tick.
tick(#state{sending = undefined, lease = Lease} = State) when Lease =/= undefined ->
    case queue:is_empty(State#state.queue) of
        true -> say([], State);
        false -> State
    end;
tick(State) ->
    State.

%% While frames are looked at, after which there is a look again.
say(Frame, #state{queue = Queue, sending = Sending} = State) ->
    Queued = State#state{queue = queue:in({Frame, undefined}, Queue)},
    case Sending of
        undefined -> write(Queued);
        _ -> Queued
    end.

now_ms() -> erlang:monotonic_time(millisecond).
