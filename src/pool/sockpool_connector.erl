%%% @private
%%% One attempt to make a connection, in a process of its own: resolves the name, asks epmd where a
%%% node listens, connects, does the transport's handshake, runs the pool's init function. The pool
%%% process bounds its time by killing it; its death, for whatever reason, gives the capacity back,
%%% because the attempt's handle dies with it.
-module(sockpool_connector).

-export([start/5, configure/3]).

-define(LINK_MS, 100).

%% @doc Linked to the caller, which gets `{sockpool_connector, Pid, ok | {ok, Worker} | {error, Reason}}', or the
%% exit signal where the process was killed; then `At' says how far it had come. `Turn' says with which
%% of several hosts to begin.
%% `Configure' is the turn of the configuration that has to be made first, and of which the caller
%% is told by `sockpool_configured'; or `done'. Where there is no process to be had, the attempt has
%% failed.
-spec start(sockpool_nif:pool(), sockpool_nif:lease(), sockpool_opts:opts(), non_neg_integer(),
            Configure :: integer() | done) -> {ok, pid(), At :: sockpool_step:at()} | {error, system_limit}.
start(Pool, Attempt, Opts, Turn, Configure) ->
    Parent = self(),
    At = sockpool_step:new(Turn + 1),
    Ancestors = [Parent | get('$ancestors')],
    try spawn_link(fun() ->
                       _ = put('$ancestors', Ancestors),
                       connector(Parent, Pool, Attempt, Opts, Turn, Configure, At)
                   end) of
        Pid ->
            %% Not by the process itself: it may be killed before it gets so far.
            ok = sockpool_nif:attempt_claim(Attempt, Pid),
            Pid ! {Parent, claimed},
            {ok, Pid, At}
    catch
        error:system_limit ->
            ok = sockpool_nif:attempt_claim(Attempt, Parent),
            failed(Pool, Attempt, system_limit)
    end.

connector(Parent, Pool, Attempt, Opts, Turn, Configure, At) ->
    receive {Parent, claimed} -> ok end,
    Result = try
                 attempt(Parent, Pool, Attempt, Opts, Turn, Configure, At)
             catch
                 %% A process or port that somebody else needs for it, as to resolve a name.
                 error:system_limit -> failed(Pool, Attempt, system_limit)
             end,
    Parent ! {?MODULE, self(), Result},
    handed_over(Parent, Result).

%% A worker is let go when the pool's process is linked to it. Where it had ended before that, only this one knows why.
handed_over(Parent, {ok, Worker}) ->
    receive {Parent, linked} -> true = unlink(Worker) end,
    receive
        {'EXIT', Worker, Reason} -> Parent ! {sockpool_ended, Worker, Reason}, ok
    after 0 ->
        ok
    end;
handed_over(_Parent, _Result) ->
    ok.

attempt(Parent, Pool, Attempt, Opts, Turn, Configure, At) ->
    case configured(Parent, Pool, Opts, Configure, At) of
        ok -> run(Parent, Pool, Attempt, Opts, Turn, At);
        {error, Reason} -> failed(Pool, Attempt, Reason)
    end.

configured(_Parent, _Pool, _Opts, done, _At) ->
    ok;
configured(Parent, Pool, #{connect_timeout := Ms} = Opts, Turn, At) ->
    ok = sockpool_step:enter(At, files),
    %% Half of the time: the other half is for the connect, and for this to be told.
    Result = configure(Pool, Opts#{connect_timeout := max(1, Ms div 2)}, Turn),
    _ = Result =:= ok andalso (Parent ! sockpool_configured),
    Result.

%% @doc The transport's files and options, as they are now.
-spec configure(sockpool_nif:pool(), sockpool_opts:opts(), Turn :: integer()) ->
          ok | {error, {tls, {Option :: atom(), Why :: term()}} | system_limit}.
configure(Pool, #{tls := Tls, connect_timeout := LimitMs}, Turn) ->
    sockpool_tls:configure(Pool, Tls, Turn, LimitMs).

run(Parent, Pool, Attempt, #{transport := worker} = Opts, _Turn, At) ->
    _ = process_flag(trap_exit, true),
    _ = sockpool_worker:watch(Parent, Opts),
    ok = sockpool_step:enter(At, start),
    case sockpool_worker:start(Opts, Attempt) of
        {ok, Worker} ->
            case prepare(Pool, Attempt, Worker, maps:get(init, Opts), At) of
                ok ->
                    {ok, Worker};
                {error, _} = Error ->
                    true = unlink(Worker),
                    Error
            end;
        {error, Reason} ->
            Error = failed(Pool, Attempt, Reason),
            ok = sockpool_worker:end_started(Opts),
            Error
    end;
run(_Parent, Pool, Attempt, Opts, Turn, At) ->
    Deadline = sockpool_wait:deadline(maps:get(connect_timeout, Opts)),
    try credentials(Opts) of
        Credentials ->
            case connect(targets(Opts, Turn), {Attempt, Credentials, At}, Deadline, none) of
                ok ->
                    ok = note_session(Opts, Attempt, At),
                    prepare(Pool, Attempt, Attempt, maps:get(init, Opts), At);
                {error, Reason, Tried} ->
                    ok = sockpool_step:tried(At, Tried),
                    failed(Pool, Attempt, Reason)
            end
    catch
        throw:{cookie, _} = Reason -> failed(Pool, Attempt, Reason)
    end.

%% For who listens.
note_session(#{transport := tls}, Attempt, At) ->
    case sockpool_events:listens() andalso sockpool_nif:info(Attempt) of
        {ok, #{resumed := true}} -> sockpool_step:resumed(At);
        _ -> ok
    end;
note_session(_Opts, _Attempt, _At) ->
    ok.

%% What is told to a node; nothing to others.
credentials(#{transport := node, node := Node, cookie := Cookie}) ->
    _ = process_flag(sensitive, true),
    {atom_to_binary(Node), our_host(node()), cookie(Node, Cookie)};
credentials(_Opts) ->
    none.

our_host(nonode@nohost) ->
    {ok, Host} = inet:gethostname(),
    list_to_binary(Host);
our_host(Node) ->
    {_Name, Host} = sockpool_option:split_node(Node),
    list_to_binary(Host).

%% Neither reason nor stack: the cookie may be in them.
cookie(Node, undefined) ->
    cookie(Node, fun() -> erlang:get_cookie(Node) end);
cookie(_Node, Fun) ->
    Given = try
                sockpool_callback:call(Fun, [])
            catch
                error:{badfun, Fun} -> throw({cookie, badfun});
                Class:_ -> throw({cookie, Class})
            end,
    case sockpool_option:cookie_bytes(Given) of
        {ok, Bytes} -> Bytes;
        error -> throw({cookie, not_a_cookie})
    end.

%% The reason first, so that whoever sees that the capacity is back finds it.
failed(Pool, Attempt, Reason) ->
    ok = sockpool_nif:pool_note_error(Pool, Reason),
    case sockpool_nif:attempt_failed(Attempt, sockpool_reason:class(Reason)) of
        ok -> ok;
        {error, closed} -> ok
    end,
    {error, Reason}.

targets(#{transport := unix, path := Path}, _Turn) ->
    [{Path, local}];
targets(#{transport := node, node := Node, port := Port}, _Turn) ->
    {Name, Host} = sockpool_option:split_node(Node),
    Epmd = epmd(),
    At = case Port of undefined -> {epmd, Epmd, Node, Name}; _ -> Port end,
    case {sockpool_host:address_or_name(Host), finds_addresses(Epmd)} of
        {_, true} when Port =:= undefined ->
            [{{address_please, Epmd, Name, Host, Family}, At} || Family <- [inet, inet6]];
        {Host, _} ->
            [{{inet, Host}, At}, {{inet6, Host}, At}];
        {Address, _} ->
            [{Address, At}]
    end;
targets(#{host := Hosts, port := Port}, Turn) ->
    {Later, First} = lists:split(Turn rem length(Hosts), Hosts),
    [{Host, Port} || Host <- First ++ Later].

%% The user's own one may be loaded late, where this node is not distributed.
epmd() ->
    Epmd = net_kernel:epmd_module(),
    _ = code:ensure_loaded(Epmd),
    Epmd.

%% As OTP does it: such a module may know addresses, and perhaps ports, that no name server knows. That
%% of OTP asks for the name, which is done here, with a time limit.
finds_addresses(Epmd) ->
    Epmd =/= erl_epmd andalso erlang:function_exported(Epmd, address_please, 3).

connect([], _Attempt, _Deadline, Last) ->
    Last;
connect([{Host, Port} | Rest] = Targets, {_, _, At} = Attempt, Deadline, Last) ->
    ok = sockpool_step:enter(At, look_up),
    Share = case family(Host) of inet -> Deadline; _ -> share(Deadline, Targets) end,
    Result = case resolved(Host, Share, Attempt) of
                 {ok, Addresses} -> connect_any(Addresses, Port, host_text(Host), Attempt, Share, none);
                 {error, Reason} -> {error, Reason, none}
             end,
    case {Result, family(Host)} of
        {ok, _} -> ok;
        %% The node was asked. A node listens on one of the two, mostly on this.
        {{error, {_, _}, _}, inet} -> Result;
        _ -> connect(Rest, Attempt, Deadline, more_telling(Last, Result))
    end.

%% Of the two that are tried for a node.
family({Family, _Name}) when is_atom(Family) -> Family;
family({address_please, _, _, _, Family}) -> Family;
family(_Host) -> undefined.

connect_any([], _Port, _Host, _Attempt, _Deadline, Last) ->
    Last;
connect_any([Address | Rest] = Addresses, Port, Host, Attempt, Deadline, Last) ->
    case connect_one(Address, Port, Host, Attempt, share(Deadline, Addresses)) of
        ok -> ok;
        Error -> connect_any(Rest, Port, Host, Attempt, Deadline, more_telling(Last, Error))
    end.

%% Who answered and refused says more than an address where nobody listens, and that more than one to
%% which there is no way from here, or a name that stands for none.
more_telling(none, Error) -> Error;
more_telling({error, Last, _} = Before, {error, Reason, _} = Error) ->
    case telling(Reason) >= telling(Last) of
        true -> Error;
        false -> Before
    end.

telling(Reason) when not is_atom(Reason) -> 2;
telling(Reason) ->
    case lists:member(Reason, [enetunreach, ehostunreach, enetdown, eaddrnotavail, eafnosupport, einval,
                               nxdomain]) of
        true -> 0;
        false -> 1
    end.

connect_one({Address, Port}, _Epmd, Host, Attempt, Deadline) ->
    connect_one(Address, Port, Host, Attempt, Deadline);
connect_one(Address, {epmd, Epmd, Node, Name}, Host, {_, _, At} = Attempt, Deadline) ->
    ok = sockpool_step:enter(At, epmd),
    case port_please(Epmd, Name, sockpool_host:address(Address), Deadline) of
        {port, Port, _Version} -> connect_one(Address, Port, Host, Attempt, Deadline);
        noport -> {error, {no_such_node, Node}, none};
        {error, {epmd, _} = Reason} -> {error, Reason, none};
        Other -> {error, {epmd, sockpool_reason:bounded(Other)}, none}
    end;
connect_one(Address, Port, Host, {Attempt, Credentials, At}, Deadline) ->
    To = case Credentials of
             none -> Host;
             {Node, OurHost, Cookie} -> {Host, Node, OurHost, Cookie}
         end,
    ok = sockpool_step:tried(At, {Address, Port}),
    case sockpool_wait:open(Attempt, Address, Port, To, Deadline, At) of
        ok -> ok;
        {error, timeout} -> {error, sockpool_step:timeout(At), {Address, Port}};
        {error, Reason} -> {error, Reason, {Address, Port}}
    end.

%% Half of what is left: the other half is for the connect.
port_please(Epmd, Name, Address, Deadline) ->
    case erlang:function_exported(Epmd, port_please, 3) of
        true -> ask(Epmd, port_please, [Name, Address, sockpool_wait:left(Deadline) div 2]);
        false -> ask(Epmd, port_please, [Name, Address])
    end.

ask(Epmd, Function, Args) ->
    try
        apply(Epmd, Function, Args)
    catch
        Class:Reason:Stack when {Class, Reason} =/= {error, system_limit} ->
            {error, {epmd, sockpool_reason:of_exception(Class, Reason, Stack)}}
    end.

host_text(Path) when is_binary(Path) -> Path;
host_text({address_please, _, _, Host, _}) -> list_to_binary(Host);
host_text({Family, Name}) when is_atom(Family) -> list_to_binary(Name);
host_text(Address) when is_tuple(Address) -> list_to_binary(inet:ntoa(Address));
host_text(Name) -> list_to_binary(Name).

%% The deadline of the first of these: one that does not answer leaves time for those after it.
share(Deadline, Targets) ->
    Now = sockpool_wait:deadline(0),
    Now + max(0, Deadline - Now) div length(Targets).

%% With the time that it took, where there is a name to look up.
resolved(Host, Deadline, {Attempt, _, _}) when not is_binary(Host), not is_tuple(Host); element(1, Host) =:= inet;
                                               element(1, Host) =:= inet6 ->
    BeganUs = erlang:monotonic_time(microsecond),
    Result = resolve(Host, Deadline),
    _ = element(1, Result) =:= ok andalso
        sockpool_nif:attempt_resolved(Attempt, erlang:monotonic_time(microsecond) - BeganUs),
    Result;
resolved(Host, Deadline, _Attempt) ->
    resolve(Host, Deadline).

resolve(Path, _Deadline) when is_binary(Path) ->
    {ok, [Path]};
resolve({Family, Name}, Deadline) when is_atom(Family) ->
    addresses([lookup(Name, Family, Deadline)]);
resolve({address_please, Epmd, Name, Host, Family}, _Deadline) ->
    case ask(Epmd, address_please, [Name, Host, Family]) of
        {ok, Address} -> {ok, [sockpool_host:address_bytes(Address)]};
        {ok, Address, Port, _Version} -> {ok, [{sockpool_host:address_bytes(Address), Port}]};
        {error, Reason} = Error when is_atom(Reason) -> Error;
        {error, {epmd, _}} = Error -> Error;
        Other -> {error, {epmd, sockpool_reason:bounded(Other)}}
    end;
resolve(Address, _Deadline) when is_tuple(Address) ->
    {ok, [sockpool_host:address_bytes(Address)]};
resolve(Name, Deadline) ->
    addresses([lookup(Name, inet, Deadline), lookup(Name, inet6, Deadline)]).

addresses(Lookups) ->
    case [sockpool_host:address_bytes(A) || {ok, As} <- Lookups, A <- As] of
        [] -> hd(Lookups);
        Addresses -> {ok, Addresses}
    end.

%% Half of what is left: the other half is for the connect.
lookup(Name, Family, Deadline) ->
    inet:getaddrs(Name, Family, max(1, Deadline - sockpool_wait:deadline(0)) div 2).

%% Subject: what the init function gets.
prepare(Pool, Attempt, Subject, Init, At) ->
    ok = sockpool_step:enter(At, init),
    try init(Init, Subject) of
        ok -> hand_over(Pool, Attempt, Subject);
        {ok, State} -> with_state(Pool, Attempt, Subject, State);
        {error, Reason} -> failed(Pool, Attempt, {init, sockpool_reason:bounded(Reason)});
        Other -> failed(Pool, Attempt, {init, {bad_return, sockpool_reason:bounded(Other)}})
    catch
        %% Of a module that was loaded twice since: nothing will make it work again.
        error:{badfun, Init} ->
            failed(Pool, Attempt, {init, badfun});
        Class:Reason:Stack ->
            failed(Pool, Attempt, {init, sockpool_reason:of_exception(Class, Reason, Stack)})
    end.

init(undefined, _Subject) -> ok;
init(Init, Subject) -> sockpool_callback:call(Init, [Subject]).

with_state(Pool, Attempt, Subject, State) ->
    case sockpool_state:set(Attempt, State) of
        ok -> hand_over(Pool, Attempt, Subject);
        {error, emsgsize} -> failed(Pool, Attempt, {init, {state, emsgsize}});
        {error, Reason} -> failed(Pool, Attempt, ended(Subject, Reason))
    end.

hand_over(Pool, Attempt, Subject) ->
    case sockpool_nif:attempt_ready(Attempt) of
        ok -> ok;
        {error, Reason} -> failed(Pool, Attempt, ended(Subject, Reason))
    end.

%% A worker, which mostly is linked to this process, may have ended meanwhile: it is dead some time before its links say so.
ended(Worker, Reason) when is_pid(Worker) ->
    receive
        {'EXIT', Worker, Why} -> {worker, sockpool_reason:of_exit(Why)}
    after ?LINK_MS ->
        Reason
    end;
ended(_Conn, Reason) ->
    Reason.
