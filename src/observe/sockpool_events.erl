%%% @doc What happens in the pools of this node, as events: a name, measurements and metadata. docs/observability.md says which
%%% there are.
%%%
%%% One process takes them from those to whom something happens, who never wait for it. It keeps the last ones, sends them to
%%% subscribers (sockpool:subscribe/1), and gives them to a second process, which calls the handlers of Telemetry where that
%%% is loaded. Up to 1,000 may be on the way to each of the two; what comes then is dropped, and counted. So a handler that is
%%% slow costs others nothing, and one that ends its process costs what was on the way.
%%%
%%% What is kept, who has subscribed and what is counted is in a table of sockpool's supervisor, and outlives a crash of these
%%% processes.
-module(sockpool_events).
-behaviour(gen_server).

-export([emit/3, emit/4, listens/0, recent/2, dropped/0, filter/1, subscribe/2, unsubscribe/1]).
-export([start_link/0, handlers/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([kept/0, filter/0]).

-define(MAX_QUEUED, 1000).
-define(MAX_KEPT, 1000).
%% Of those that may come in thousands one is kept in so long a time.
-define(KEEP_EACH_MS, 10000).
-define(MAX_KINDS, 1000).
%% A subscriber may have so many messages in its queue; so often that is looked at.
-define(MAX_BEHIND, 1000).
-define(LOOK_EACH, 100).
-define(HIBERNATE_MS, 1000).

-type severity() :: sockpool_event_table:severity().
-type event() :: sockpool_event_table:event().
-type kept() :: #{id := pos_integer(), at := integer(), severity := severity(), event := event(),
                  measurements := map(), metadata := map()}.
%% Only what is so severe, of this pool, or with one of these as its first words.
-type filter() :: #{severity => severity(), pool => sockpool_pool:id(), events => [event()]}.

-record(subscriber, {pid :: pid(), filter :: filter(), monitor :: reference(),
                     sent = 0 :: non_neg_integer(),       % since its queue was looked at
                     missed = 0 :: non_neg_integer()}).   % since it has too many
-record(state, {queued :: atomics:atomics_ref(),
                next :: pos_integer(),
                %% how many of those that are kept, and of the others
                kept :: #{boolean() => non_neg_integer()},
                subscribers = #{} :: #{reference() => #subscriber{}},
                %% when one of that kind was kept, and how many were not since
                kinds = #{} :: #{{term(), event()} => {integer(), non_neg_integer()}},
                handlers = none :: none | {pid(), Queued :: atomics:atomics_ref()}}).

%%% From any process.

%% @doc As emit/4, with the severity that the event has.
-spec emit(event(), map(), map()) -> ok.
emit(Event, Measurements, Metadata) ->
    emit(sockpool_event_table:severity(Event, Metadata), Event, Measurements, Metadata).

%% @doc Neither waits nor fails. Where nobody listens only those from `notice' on are kept.
-spec emit(severity(), event(), map(), map()) -> ok.
emit(Severity, Event, Measurements, Metadata) ->
    case sockpool_event_table:rank(Severity) >= sockpool_event_table:rank(notice) orelse listens() of
        true -> offer({?MODULE, erlang:system_time(millisecond), Severity, Event, Measurements, Metadata#{node => node()}});
        false -> ok
    end.

offer(Message) ->
    try ets:lookup(?MODULE, server) of
        [{server, Pid, Queued}] -> _ = queue(Pid, Queued, Message), ok;
        [] -> ok
    catch
        error:badarg -> ok
    end.

queue(Pid, Queued, Message) ->
    case atomics:add_get(Queued, 1, 1) > ?MAX_QUEUED of
        true ->
            ok = atomics:sub(Queued, 1, 1),
            drop(1),
            false;
        false ->
            Pid ! Message,
            true
    end.

drop(0) -> ok;
drop(Count) ->
    _ = ets:update_counter(?MODULE, dropped, Count),
    ok.

%% @doc Whether somebody hears of more than what is kept.
-spec listens() -> boolean().
listens() -> has_telemetry() orelse number(subscribers) > 0.

has_telemetry() -> erlang:function_exported(telemetry, execute, 3).

%% @doc How many events were dropped because too many were on the way.
-spec dropped() -> non_neg_integer().
dropped() -> number(dropped).

number(Key) ->
    try ets:lookup(?MODULE, Key) of
        [{Key, Number}] -> Number
    catch
        error:badarg -> 0
    end.

%% @doc What is kept, and has a higher id and at least that severity: the oldest first, at most 1,000 of those from `notice'
%% on, and of the others, which are there only since somebody listens, likewise. `at' is milliseconds since 1970. A pool without a name is
%% there as the text of its reference, so that it is freed when nobody else has it.
-spec recent(Since :: non_neg_integer(), severity()) -> [kept()].
recent(Since, Severity) ->
    Least = sockpool_event_table:rank(Severity),
    try
        Kept = lists:merge(after_id(true, Since), after_id(false, Since)),
        [Event || {_Id, #{severity := Of} = Event} <- Kept, sockpool_event_table:rank(Of) >= Least]
    catch
        error:badarg -> []
    end.

after_id(IsKept, Since) ->
    ets:select(?MODULE, [{{{IsKept, '$1'}, '$2'}, [{'>', '$1', Since}], [{{'$1', '$2'}}]}]).

%% @doc Whether that is one.
-spec filter(map()) -> {ok, filter()} | error.
filter(Map) ->
    case lists:all(fun is_filter/1, maps:to_list(Map)) of
        true -> {ok, Map};
        false -> error
    end.

is_filter({severity, Severity}) -> lists:member(Severity, sockpool_event_table:severities());
is_filter({pool, Pool}) -> is_atom(Pool) orelse is_reference(Pool);
is_filter({events, Events}) when length(Events) > 0 -> lists:all(fun is_list_of_atoms/1, Events);
is_filter(_Other) -> false.

is_list_of_atoms(List) when length(List) >= 0 -> lists:all(fun is_atom/1, List);
is_list_of_atoms(_Other) -> false.

%% @doc See sockpool:subscribe/2.
-spec subscribe(pid(), filter()) -> {ok, reference()} | {error, {not_started, sockpool}}.
subscribe(Pid, Filter) -> call({subscribe, Pid, Filter}, {error, {not_started, sockpool}}).

-spec unsubscribe(reference()) -> ok.
unsubscribe(Ref) -> call({unsubscribe, Ref}, ok).

call(Request, NotThere) ->
    try
        gen_server:call(?MODULE, Request, infinity)
    catch
        exit:_ -> NotThere
    end.

%%% The process.

%% @doc By the supervisor, whose table it is.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    _ = case ets:whereis(?MODULE) of
            undefined ->
                ?MODULE = ets:new(?MODULE, [named_table, public, ordered_set, {read_concurrency, true}]),
                ets:insert(?MODULE, [{dropped, 0}, {subscribers, 0}]);
            _ ->
                ok
        end,
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], [{hibernate_after, ?HIBERNATE_MS}]).

-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    _ = case ets:lookup(?MODULE, server) of
            [{server, _Dead, Lost}] -> drop(atomics:get(Lost, 1));
            [] -> ok
        end,
    Queued = atomics:new(1, []),
    Subscribers = maps:from_list([{Ref, subscriber(Pid, Filter)} || {Ref, Pid, Filter} <- known_subscribers()]),
    true = ets:insert(?MODULE, {server, self(), Queued}),
    {ok, #state{queued = Queued, next = 1 + max(last_id(true), last_id(false)), subscribers = Subscribers,
                kept = maps:from_list([{Class, count(Class)} || Class <- [true, false]])}}.

last_id(Class) ->
    case ets:prev(?MODULE, {Class, infinity}) of
        {Class, Id} -> Id;
        _ -> 0
    end.

count(Class) -> ets:select_count(?MODULE, [{{{Class, '_'}, '_'}, [], [true]}]).

known_subscribers() -> ets:select(?MODULE, [{{{subscriber, '$1'}, '$2', '$3'}, [], [{{'$1', '$2', '$3'}}]}]).

subscriber(Pid, Filter) -> #subscriber{pid = Pid, filter = Filter, monitor = monitor(process, Pid)}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call({subscribe, Pid, Filter}, _From, #state{subscribers = Subscribers} = State) ->
    Ref = make_ref(),
    true = ets:insert(?MODULE, {{subscriber, Ref}, Pid, Filter}),
    {reply, {ok, Ref}, counted(State#state{subscribers = Subscribers#{Ref => subscriber(Pid, Filter)}})};
handle_call({unsubscribe, Ref}, _From, State) ->
    {reply, ok, forget(Ref, State)};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({?MODULE, At, Severity, Event, Measurements, Metadata}, #state{queued = Queued} = State) ->
    ok = atomics:sub(Queued, 1, 1),
    Kept = keep(At, Severity, Event, Measurements, Metadata, State),
    Told = tell(Severity, Event, Measurements, Metadata, Kept),
    {noreply, handle(Event, Measurements, Metadata, Told)};
handle_info({'DOWN', Monitor, process, _Pid, _Reason}, #state{subscribers = Subscribers} = State) ->
    {noreply, maps:fold(fun(Ref, #subscriber{monitor = Of}, Next) when Of =:= Monitor -> forget(Ref, Next);
                           (_Ref, _Other, Next) -> Next
                        end, State, Subscribers)};
handle_info({'EXIT', Pid, _Reason}, #state{handlers = {Pid, Queued}} = State) ->
    drop(atomics:get(Queued, 1)),
    {noreply, State#state{handlers = none}};
handle_info(_Other, State) ->
    {noreply, State}.

forget(Ref, #state{subscribers = Subscribers} = State) ->
    case maps:take(Ref, Subscribers) of
        {#subscriber{monitor = Monitor}, Rest} ->
            true = demonitor(Monitor, [flush]),
            true = ets:delete(?MODULE, {subscriber, Ref}),
            counted(State#state{subscribers = Rest});
        error ->
            State
    end.

counted(#state{subscribers = Subscribers} = State) ->
    true = ets:insert(?MODULE, {subscribers, map_size(Subscribers)}),
    State.

%%% What is kept.

keep(At, Severity, Event, Measurements, Told, State) ->
    Metadata = without_pool(Told),
    Kept = #{at => At, severity => Severity, event => Event, measurements => Measurements, metadata => Metadata},
    Class = sockpool_event_table:rank(Severity) >= sockpool_event_table:rank(notice),
    case Class andalso not sockpool_event_table:is_rare(Event) of
        true -> one_of_many({maps:get(pool, Metadata, undefined), Event}, Kept, State);
        false -> kept(Class, Kept, State)
    end.

%% A pool without a name lives as long as somebody has it: what is kept has its text.
without_pool(#{pool := Pool} = Metadata) when is_reference(Pool) -> Metadata#{pool := list_to_binary(ref_to_list(Pool))};
without_pool(Metadata) -> Metadata.

kept(Class, Event, #state{next = Id, kept = Kept} = State) ->
    true = ets:insert(?MODULE, {{Class, Id}, Event#{id => Id}}),
    State#state{next = Id + 1, kept = bounded(Class, Kept)}.

bounded(Class, Kept) ->
    case maps:get(Class, Kept) of
        ?MAX_KEPT -> true = ets:delete(?MODULE, ets:next(?MODULE, {Class, 0})), Kept;
        Count -> Kept#{Class := Count + 1}
    end.

one_of_many(Kind, Event, #state{kinds = Kinds} = State) ->
    Now = erlang:monotonic_time(millisecond),
    case Kinds of
        #{Kind := {At, Count}} when Now - At < ?KEEP_EACH_MS ->
            State#state{kinds = Kinds#{Kind := {At, Count + 1}}};
        #{Kind := {_At, Count}} ->
            kept(true, suppressed(Count, Event), State#state{kinds = Kinds#{Kind := {Now, 0}}});
        #{} when map_size(Kinds) >= ?MAX_KINDS ->
            kept(true, Event, State#state{kinds = #{Kind => {Now, 0}}});
        #{} ->
            kept(true, Event, State#state{kinds = Kinds#{Kind => {Now, 0}}})
    end.

suppressed(0, Event) -> Event;
suppressed(Count, #{metadata := Metadata} = Event) -> Event#{metadata := Metadata#{suppressed => Count}}.

%%% Who subscribed.

tell(Severity, Event, Measurements, Metadata, #state{subscribers = Subscribers} = State) ->
    Told = maps:map(fun(_Ref, #subscriber{filter = Filter} = Subscriber) ->
                            case is_wanted(Filter, Severity, Event, Metadata) of
                                true -> told({sockpool_event, Event, Measurements, Metadata}, Subscriber);
                                false -> Subscriber
                            end
                    end, Subscribers),
    State#state{subscribers = Told}.

is_wanted(Filter, Severity, Event, Metadata) ->
    sockpool_event_table:rank(Severity) >= sockpool_event_table:rank(maps:get(severity, Filter, debug))
        andalso is_of(Filter, Metadata)
        andalso lists:any(fun(Begin) -> lists:prefix(Begin, Event) end, maps:get(events, Filter, [[]])).

is_of(#{pool := Pool}, Metadata) -> maps:get(pool, Metadata, undefined) =:= Pool;
is_of(_Filter, _Metadata) -> true.

%% One that has many messages gets none, and then hears how many it has missed.
told(Message, #subscriber{missed = 0, sent = Sent} = Subscriber) when Sent < ?LOOK_EACH ->
    sent(Message, Subscriber);
told(Message, #subscriber{pid = Pid, missed = Missed} = Subscriber) ->
    case {is_behind(Pid), Missed} of
        {true, _} -> Subscriber#subscriber{missed = Missed + 1, sent = 0};
        {false, 0} -> sent(Message, Subscriber#subscriber{sent = 0});
        {false, _} -> sent(Message, caught_up(Subscriber#subscriber{sent = 0}))
    end.

caught_up(#subscriber{missed = Missed} = Subscriber) ->
    sent({sockpool_event, [sockpool, events, dropped], #{count => Missed}, #{node => node()}}, Subscriber#subscriber{missed = 0}).

is_behind(Pid) when node(Pid) =/= node() -> false;
is_behind(Pid) ->
    case process_info(Pid, message_queue_len) of
        {message_queue_len, Length} -> Length > ?MAX_BEHIND;
        undefined -> true
    end.

%% Not over a connection that is full: this process waits for nobody.
sent(Message, #subscriber{pid = Pid, sent = Sent, missed = Missed} = Subscriber) ->
    case erlang:send(Pid, Message, [nosuspend, noconnect]) of
        ok -> Subscriber#subscriber{sent = Sent + 1};
        _FullOrGone -> Subscriber#subscriber{missed = Missed + 1}
    end.

%%% Handlers of Telemetry, in a process of their own.

handle(Event, Measurements, Metadata, State) ->
    case has_telemetry() of
        true -> handled({Event, Measurements, Metadata}, State);
        false -> State
    end.

handled(What, #state{handlers = none} = State) ->
    Queued = atomics:new(1, []),
    try
        handled(What, State#state{handlers = {spawn_link(?MODULE, handlers, [Queued]), Queued}})
    catch
        error:system_limit -> drop(1), State
    end;
handled(What, #state{handlers = {Pid, Queued}} = State) ->
    _ = queue(Pid, Queued, {?MODULE, What}),
    State.

%% @private
-spec handlers(atomics:atomics_ref()) -> no_return().
handlers(Queued) ->
    receive
        {?MODULE, {Event, Measurements, Metadata}} ->
            ok = atomics:sub(Queued, 1, 1),
            _ = try
                    (telemetry()):execute(Event, Measurements, Metadata)
                catch
                    _:_ -> ok
                end,
            ?MODULE:handlers(Queued)
    after ?HIBERNATE_MS ->
        erlang:hibernate(?MODULE, handlers, [Queued])
    end.

%% Where it is loaded: this is no dependency.
telemetry() -> telemetry.
