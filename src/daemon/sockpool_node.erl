%%% @doc Starts and supervises the daemon `sockpool_node', a node in C that serves pools to the whole
%%% cluster, as a port of this VM. It ends with this VM, however that ends.
%%%
%%% ```
%%% Spec = sockpool_node:child_spec(#{name => pools,
%%%                                   pools => #{cache => #{host => "127.0.0.1", port => 6379}}}),
%%% {ok, _} = supervisor:start_child(my_sup, Spec),
%%% {ok, Conn} = sockpool:checkout({cache, 'pools@myhost'}).
%%% '''
%%%
%%% The daemon's log goes to this VM's logger.
-module(sockpool_node).
-behaviour(gen_server).

-export([start_link/1, child_spec/1, format_error/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([options/0, reason/0]).

-type options() :: #{name := atom(),
                     cookie => atom() | fun(() -> atom()) | {module(), Function :: atom(), Args :: [term()]},
                     listen => inet:ip_address() | undefined | nil,
                     metrics => {inet:ip_address(), inet:port_number()} | file:name_all() | undefined | nil,
                     tick_time => 1..86400 | undefined | nil,
                     pools => #{Name :: atom() => sockpool:options()} | [{Name :: atom(), sockpool:options()}] | nil,
                     program => file:name_all() | undefined | nil,
                     start_timeout => pos_integer() | nil,
                     stop_timeout => pos_integer() | nil}
                 | [{atom(), term()}].
%% `name': the daemon's node name; where it has no host, that of this node. Required.
%%
%% `cookie': by default what this node uses with that name, which is `erlang:get_cookie/0' unless
%% `erlang:set_cookie/2' said otherwise. Another one is set for that name on this node. child_spec/1
%% makes a fun of it, so that the reports of supervisors do not show it.
%%
%% `listen': the address to listen on; by default what the name's host stands for.
%%
%% `metrics': where it tells Prometheus by HTTP what its pools count, at `/metrics'; by default nowhere. A path is that of a Unix socket.
%%
%% `tick_time': net_ticktime in seconds; by default that of this node.
%%
%% `pools': to be started at once, and again after each restart; by default none.
%%
%% `program': by default `sockpool_node' in this application's priv directory.
%%
%% `start_timeout': milliseconds until it must serve, 10000 by default.
%%
%% `stop_timeout': milliseconds that those who have connections get, at the end, to give them back,
%% 10000 by default. A daemon that does not end then is killed. It is for an orderly stop: where this
%% process, or this VM, is killed, the daemon ends at once, so that the next one can have its name.

-type reason() :: {bad_option, Key :: term(), Value :: term()} % see format_error/1
                | not_alive                              % this VM is no node
                | system_limit                           % it has no process to spare
                | {program, file:filename(), inet:posix() | atom()} % cannot be run
                | {cookie, error | exit | throw | bad_value} % what the fun did
                | {exit_status, integer(), LastLine :: string()} % the daemon ended
                | {port_closed, Reason :: term()}
                | {start_timeout, LastLine :: string()}
                | {pool, Name :: atom(), Reason :: term()}. % the daemon cannot start this pool

-record(state, {node :: node(),
                port :: port(),
                os_pid :: non_neg_integer() | undefined,
                stop_timeout :: pos_integer(),
                ended = false :: boolean(),
                last_line = "" :: string()}).

-define(LINE_BYTES, 4096).
-define(RETRY_MS, 20).
%% What the daemon may take to end once it waits for nobody; and once it is killed.
-define(GOODBYE_MS, 2000).
-define(KILL_MS, 2000).
-define(MAX_MS, 4294967295).

%% @doc Starts the daemon and waits until it serves all its pools. The process ends when the daemon
%% does, with `{exit_status, Status, LastLine}'.
-spec start_link(options()) -> {ok, pid()} | {error, reason()}.
start_link(Options) ->
    case is_alive() of
        false ->
            {error, not_alive};
        true ->
            case sockpool_node_opts:parse(Options) of
                {ok, Opts} -> start_parsed(Opts);
                {error, _} = Error -> Error
            end
    end.

start_parsed(Opts) ->
    try
        gen_server:start_link(?MODULE, Opts, [])
    catch
        error:system_limit -> {error, system_limit}
    end.

%% @doc For your supervisor. A daemon that ends is started again, with its pools.
-spec child_spec(options()) -> supervisor:child_spec().
child_spec(Options) ->
    Sealed = sockpool_node_opts:seal(Options),
    StopMs = case Sealed of
                 #{stop_timeout := Ms} when is_integer(Ms) -> Ms;
                 _ -> 10000
             end,
    #{id => {?MODULE, case Sealed of #{name := Name} -> Name; _ -> undefined end},
      start => {?MODULE, start_link, [Sealed]},
      %% Longer than what the process itself waits for the daemon's end, as far as a time can be.
      shutdown => min(max(0, StopMs) + ?GOODBYE_MS + 2 * ?KILL_MS, ?MAX_MS)}.

%% @doc A sentence that says what is wrong.
-spec format_error(reason() | term()) -> string().
format_error({bad_option, _, _} = Bad) ->
    sockpool_node_opts:format_error(Bad);
format_error(not_alive) ->
    "this VM is not a node: start it with -name or -sname";
format_error(system_limit) ->
    "this VM has no process to spare (see +P)";
format_error({program, Path, Reason}) ->
    format("the program ~ts cannot be run: ~0tp", [Path, Reason]);
format_error({cookie, What}) ->
    format("option cookie: the fun must return an atom of 1 to 255 characters (~0tp)", [What]);
format_error({exit_status, Status, LastLine}) ->
    format("the daemon ended with status ~0tp; the last that it said was: ~ts", [Status, LastLine]);
format_error({port_closed, Reason}) ->
    format("the daemon cannot be spoken to: ~0tp", [Reason]);
format_error({start_timeout, LastLine}) ->
    format("the daemon did not serve in time; the last that it said was: ~ts", [LastLine]);
format_error({pool, Name, Reason}) ->
    format("pool ~0tp: ~ts", [Name, sockpool:format_error(Reason)]);
format_error(Reason) ->
    format("~0tp", [Reason]).

%%% Starting.

%% @private
-spec init(sockpool_node_opts:opts()) -> {ok, #state{}} | {stop, reason()}.
init(#{start_timeout := StartMs} = Opts) ->
    process_flag(trap_exit, true),
    Deadline = sockpool_wait:deadline(StartMs),
    try
        launch(Opts, cookie(Opts))
    of
        State -> bring_up(State, maps:to_list(maps:get(pools, Opts)), Deadline)
    catch
        throw:{not_started, Reason} -> {stop, Reason}
    end.

bring_up(State, Pools, Deadline) ->
    try
        Registered = await_registered(State, Deadline),
        Reached = await_answer(Registered, Deadline),
        Request = case crashed_under(Reached) =:= parent() of
                      true -> restart_pool;
                      false -> start_pool
                  end,
        ok = lists:foreach(fun(Pool) -> start_pool(Request, Pool, Reached, Deadline) end, Pools),
        ok = set_parent(Reached, parent()),
        {ok, Reached}
    catch
        throw:{not_started, Reason, Latest} ->
            _ = stop_daemon(Latest),
            {stop, Reason}
    end.

%%% Whose child it was when it crashed, as in sockpool_pool: the same parent starts it again, and does not
%%% wait to hear that a file of TLS is missing. That is told to those who use its pool, and no other pool's
%%% affair.

%% Never 0, which is: none, after an orderly end.
parent() -> 1 + erlang:phash2(hd(get('$ancestors'))).

crashed_under(State) -> atomics:get(parent_cell(State), 1).

set_parent(State, Parent) -> atomics:put(parent_cell(State), 1, Parent).

%% Only this process comes here.
parent_cell(#state{node = Node}) ->
    case persistent_term:get({?MODULE, Node}, undefined) of
        undefined ->
            Cell = atomics:new(1, []),
            ok = persistent_term:put({?MODULE, Node}, Cell),
            Cell;
        Cell ->
            Cell
    end.

cookie(#{name := Node, cookie := undefined}) ->
    erlang:get_cookie(Node);
cookie(#{name := Node, cookie := Fun}) ->
    try sockpool_callback:call(Fun, []) of
        Cookie ->
            sockpool_node_opts:is_cookie(Cookie)
                orelse throw({not_started, {cookie, bad_value}}),
            true = erlang:set_cookie(Node, Cookie),
            Cookie
    catch
        %% Neither reason nor stack: the cookie may be in them.
        Class:_ -> throw({not_started, {cookie, Class}})
    end.

launch(#{name := Node, program := Program, stop_timeout := StopMs} = Opts, Cookie) ->
    Port = open(Program, arguments(Opts)),
    OsPid = case erlang:port_info(Port, os_pid) of
                {os_pid, Pid} -> Pid;
                undefined -> undefined
            end,
    State = #state{node = Node, port = Port, os_pid = OsPid, stop_timeout = StopMs},
    tell(State, [atom_to_list(Cookie), $\n]),
    State.

open(Program, Arguments) ->
    try
        open_port({spawn_executable, Program},
                  [{args, Arguments}, {line, ?LINE_BYTES}, exit_status, stderr_to_stdout, hide,
                   {env, [{"SOCKPOOL_COOKIE", false}, {"RELEASE_COOKIE", false}]}])
    catch
        error:Reason -> throw({not_started, {program, Program, Reason}})
    end.

arguments(#{name := Node, listen := Listen, metrics := Metrics, tick_time := TickTime, stop_timeout := StopMs}) ->
    ["--port", "--cookie-stdin", "--name", atom_to_binary(Node),
     "--tick-time", integer_to_list(tick_time(TickTime)), "--stop-timeout", integer_to_list(StopMs)
     | case Listen of
           undefined -> [];
           _ -> ["--listen", inet:ntoa(Listen)]
       end ++ metrics(Metrics)].

metrics(undefined) -> [];
metrics({Address, Port}) when tuple_size(Address) =:= 8 -> ["--metrics", lists:concat(["[", inet:ntoa(Address), "]:", Port])];
metrics({Address, Port}) -> ["--metrics", lists:concat([inet:ntoa(Address), ":", Port])];
metrics(Path) -> ["--metrics", Path].

tick_time(undefined) ->
    case net_kernel:get_net_ticktime() of
        {ongoing_change_to, Seconds} -> Seconds;
        Seconds when is_integer(Seconds) -> Seconds
    end;
tick_time(Seconds) ->
    Seconds.

await_registered(#state{port = Port} = State, Deadline) ->
    receive
        {Port, _} = Message ->
            Next = took(Message, State),
            case string:find(Next#state.last_line, "event=registered") of
                nomatch -> await_registered(Next, Deadline);
                _ -> Next
            end;
        {'EXIT', Port, _} = Message ->
            took(Message, State)
    after sockpool_wait:left(Deadline) ->
        throw({not_started, {start_timeout, State#state.last_line}, State})
    end.

%% A connection to its predecessor may be there still.
await_answer(#state{node = Node} = State, Deadline) ->
    case net_kernel:connect_node(Node) =:= true andalso
        call(Node, which_pools, sockpool_wait:left(Deadline)) of
        {ok, _} -> State;
        _ -> await_answer(pause(State, Deadline), Deadline)
    end.

%% Takes what comes from the port meanwhile.
pause(#state{port = Port} = State, Deadline) ->
    Left = sockpool_wait:left(Deadline),
    Left > 0 orelse throw({not_started, {start_timeout, State#state.last_line}, State}),
    receive
        {Port, _} = Message -> took(Message, State);
        {'EXIT', Port, _} = Message -> took(Message, State)
    after min(Left, ?RETRY_MS) ->
        State
    end.

%% While it starts, its end ends the start.
took(Message, State) ->
    case from_port(Message, State) of
        {ok, Next} -> Next;
        {ended, Reason, Next} -> throw({not_started, Reason, Next})
    end.

start_pool(Request, {Name, Opts}, #state{node = Node} = State, Deadline) ->
    case call(Node, {Request, Name, revealed(Name, opened(Opts), State)}, sockpool_wait:left(Deadline)) of
        {ok, ok} ->
            ok;
        {ok, {error, {bad_option, Key, Value}}} ->
            throw({not_started, {bad_option, {pools, Name, Key}, Value}, State});
        {ok, {error, Reason}} ->
            throw({not_started, {pool, Name, Reason}, State});
        {error, Reason} ->
            throw({not_started, {pool, Name, Reason}, State})
    end.

opened(#{health := #{} = How} = Opts) ->
    Opts#{health := maps:filter(fun(_Key, Value) -> Value =/= undefined end, sockpool_health:opened(How))};
opened(Opts) ->
    Opts.

%% Neither reason nor stack: the cookie may be in them.
revealed(Name, #{cookie := Fun} = Opts, State) when Fun =/= undefined ->
    try
        Opts#{cookie := sockpool_callback:call(Fun, [])}
    catch
        Class:_ -> throw({not_started, {pool, Name, {cookie, Class}}, State})
    end;
revealed(_Name, Opts, _State) ->
    Opts.

call(Node, Request, TimeoutMs) ->
    try
        {ok, gen_server:call({sockpool, Node}, Request, TimeoutMs)}
    catch
        exit:{Reason, _} -> {error, Reason}
    end.

%%% Running.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) ->
          {reply, {error, unknown_call}, #state{}}.
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, reason(), #state{}}.
handle_info(Message, State) ->
    case from_port(Message, State) of
        {ok, Next} -> {noreply, Next};
        {ended, Reason, Next} -> {stop, Reason, Next}
    end.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(Reason, State) ->
    _ = Reason =:= shutdown andalso set_parent(State, 0),
    _ = stop_daemon(State),
    ok.

from_port({Port, {data, {_EolOrNot, Bytes}}}, #state{port = Port, node = Node} = State) ->
    Line = text(Bytes),
    log(Line, Node),
    {ok, State#state{last_line = Line}};
from_port({Port, {exit_status, Status}}, #state{port = Port, last_line = Line} = State) ->
    {ended, {exit_status, Status, Line}, State#state{ended = true}};
from_port({'EXIT', Port, Reason}, #state{port = Port} = State) ->
    {ended, {port_closed, Reason}, State#state{ended = true}};
from_port(_Other, State) ->
    {ok, State}.

%% The names of pools in it are UTF-8.
text(Bytes) ->
    case unicode:characters_to_list(list_to_binary(Bytes)) of
        Text when is_list(Text) -> Text;
        _CutWithinACharacter -> Bytes
    end.

%% What has no level was said before the daemon could log: why it cannot start.
log("level=info " ++ Rest, Node) -> log(info, Rest, Node);
log("level=warning " ++ Rest, Node) -> log(warning, Rest, Node);
log("level=error " ++ Rest, Node) -> log(error, Rest, Node);
log(Line, Node) -> log(error, Line, Node).

log(Level, Line, Node) -> sockpool_log:log(Level, #{event => daemon, node => Node, line => Line}).

%%% Stopping.

%% In order: who waits hears of it, who has a connection has time to end with it, and its name leaves
%% epmd, so that the next one can have it. Told again, it waits no more. Returns when it has ended.
stop_daemon(#state{ended = true} = State) ->
    State;
stop_daemon(#state{stop_timeout = StopMs} = State) ->
    tell(State, "stop\n"),
    Later = await_end(State, sockpool_wait:deadline(StopMs)),
    tell(Later, "stop\n"),
    kill(await_end(Later, sockpool_wait:deadline(?GOODBYE_MS))).

await_end(#state{ended = true} = State, _Deadline) ->
    State;
await_end(#state{port = Port} = State, Deadline) ->
    receive
        {Port, _} = Message -> await_end(next(from_port(Message, State)), Deadline);
        {'EXIT', Port, _} = Message -> await_end(next(from_port(Message, State)), Deadline)
    after sockpool_wait:left(Deadline) ->
        State
    end.

next({ok, Next}) -> Next;
next({ended, _Reason, Next}) -> Next.

%% Its number is its own as long as its port is open.
kill(#state{ended = true} = State) ->
    State;
kill(#state{node = Node, os_pid = OsPid} = State) ->
    ok = sockpool_log:log(error, #{event => daemon_killed, node => Node}),
    _ = os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
    await_end(State, sockpool_wait:deadline(?KILL_MS)).

%% Where it has ended already, that is seen elsewhere.
tell(#state{ended = true}, _Text) ->
    ok;
tell(#state{port = Port}, Text) ->
    try port_command(Port, Text) of
        true -> ok
    catch
        error:badarg -> ok
    end.

format(Format, Args) ->
    lists:flatten(io_lib:format(Format, Args)).
