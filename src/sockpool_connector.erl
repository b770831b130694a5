%%% @private
%%% One attempt to make a connection, in a process of its own: resolves the name, connects, runs the
%%% pool's init function. The pool process bounds its time by killing it; its death, for whatever
%%% reason, gives the capacity back, because the attempt's handle dies with it.
-module(sockpool_connector).

-export([start/4]).

%% @doc Linked to the caller, which gets `{sockpool_connector, Pid, ok | {error, Reason}}', or the
%% exit signal where the process was killed. `Turn' says with which of several hosts to begin.
-spec start(sockpool_nif:pool(), sockpool_nif:lease(), sockpool_opts:opts(), non_neg_integer()) ->
          pid().
start(Pool, Attempt, Opts, Turn) ->
    Parent = self(),
    spawn_link(fun() -> Parent ! {?MODULE, self(), run(Pool, Attempt, Opts, Turn)} end).

run(Pool, Attempt, Opts, Turn) ->
    Deadline = sockpool_wait:deadline(maps:get(connect_timeout, Opts)),
    Targets = targets(Opts, Turn),
    case connect(Targets, Attempt, Deadline, {error, nxdomain}) of
        ok -> prepare(Pool, Attempt, maps:get(init, Opts));
        {error, Reason} -> failed(Pool, Attempt, Reason)
    end.

%% Before the capacity is given back, so that whoever is told of the failure finds the reason.
failed(Pool, Attempt, Reason) ->
    ok = sockpool_nif:pool_note_error(Pool, Reason),
    _ = sockpool_nif:attempt_failed(Attempt),
    {error, Reason}.

targets(#{transport := unix, path := Path}, _Turn) ->
    [{Path, local}];
targets(#{host := Hosts, port := Port}, Turn) ->
    {Later, First} = lists:split(Turn rem length(Hosts), Hosts),
    [{Host, Port} || Host <- First ++ Later].

connect([], _Attempt, _Deadline, Last) ->
    Last;
connect([{Host, Port} | Targets], Attempt, Deadline, _Last) ->
    case addresses(Host) of
        {ok, Addresses} ->
            case connect_any(Addresses, Port, Attempt, Deadline) of
                ok -> ok;
                Error -> connect(Targets, Attempt, Deadline, Error)
            end;
        {error, _} = Error ->
            connect(Targets, Attempt, Deadline, Error)
    end.

connect_any([Address | Rest], Port, Attempt, Deadline) ->
    case sockpool_wait:open(Attempt, Address, Port, Deadline) of
        {error, _} when Rest =/= [] -> connect_any(Rest, Port, Attempt, Deadline);
        Result -> Result
    end.

addresses(Path) when is_binary(Path) ->
    {ok, [Path]};
addresses(Address) when is_tuple(Address) ->
    {ok, [sockpool_opts:address_bytes(Address)]};
addresses(Name) ->
    case {inet:getaddrs(Name, inet), inet:getaddrs(Name, inet6)} of
        {{error, Reason}, {error, _}} -> {error, Reason};
        {V4, V6} -> {ok, [sockpool_opts:address_bytes(A) || {ok, As} <- [V4, V6], A <- As]}
    end.

prepare(Pool, Attempt, Init) ->
    try init(Init, Attempt) of
        ok -> hand_over(Pool, Attempt);
        {error, Reason} -> failed(Pool, Attempt, {init, Reason});
        Other -> failed(Pool, Attempt, {init, {bad_return, Other}})
    catch
        Class:Reason:Stack -> failed(Pool, Attempt, {init, {Class, Reason, Stack}})
    end.

init(undefined, _Conn) -> ok;
init(Init, Conn) -> Init(Conn).

hand_over(Pool, Attempt) ->
    case sockpool_nif:attempt_ready(Attempt) of
        ok -> ok;
        {error, Reason} -> failed(Pool, Attempt, Reason)
    end.
