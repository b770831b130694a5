%%% @private
%%% The options of TLS, on their way into C: with the password, which is asked for.
-module(sockpool_tls).

-export([configure/4, context/4, turn/0]).
-export_type([opts/0]).

-type opts() :: #{atom() => term()}.
%% As sockpool_option:tls/1 returns them.

%% @doc For configure/4: of two configurations the one whose turn was taken later stays.
-spec turn() -> integer().
turn() -> erlang:unique_integer([monotonic, positive]).

%% @doc Makes these options, with the files as they are now, those of the pool's next connections.
%% The password fun has `LimitMs' milliseconds: whoever calls this may have others wait for it.
-spec configure(sockpool_nif:pool(), opts(), Turn :: integer(), LimitMs :: non_neg_integer()) ->
          ok | {error, {tls, {Option :: atom(), Why :: term()}} | system_limit}.
configure(Pool, Opts, Turn, LimitMs) ->
    made({fun sockpool_nif:tls_configure/2, Pool, Opts, Turn}, LimitMs).

%% @doc Of these options, with the files as they are now, the configuration of one connection of the pool.
-spec context(sockpool_nif:pool(), opts(), Turn :: integer(), LimitMs :: timeout()) ->
          {ok, sockpool_nif:context()} | {error, {tls, {Option :: atom(), Why :: term()}} | system_limit}.
context(Pool, Opts, Turn, LimitMs) ->
    made({fun sockpool_nif:tls_context/2, Pool, Opts, Turn}, LimitMs).

made(Work, LimitMs) ->
    Parent = self(),
    Tag = make_ref(),
    try spawn_monitor(fun() -> Parent ! {Tag, watched(Parent, Work, LimitMs)} end) of
        Watched -> made_by(Tag, Watched)
    catch
        error:system_limit -> {error, system_limit}
    end.

made_by(Tag, {Pid, Monitor}) ->
    receive
        {Tag, Result} ->
            true = demonitor(Monitor, [flush]),
            case Result of
                ok -> ok;
                {ok, _} = Ok -> Ok;
                {error, system_limit} -> {error, system_limit};
                {error, Reason} -> {error, {tls, Reason}}
            end;
        {'DOWN', Monitor, process, Pid, Reason} ->
            {error, {tls, {configure, sockpool_reason:of_exit(Reason)}}}
    end.

%% The work is done in a process of its own, so that the password leaves the VM's heaps at once.
%% This one sees to it that the work ends, also where the caller is killed while the fun waits.
watched(Parent, {_Make, _Pool, Opts, _Turn} = Work, LimitMs) ->
    Self = self(),
    try spawn_monitor(fun() -> make_here(Self, Work) end) of
        Worker -> watched(Parent, monitor(process, Parent), Worker, limit(Opts, LimitMs))
    catch
        error:system_limit -> {error, system_limit}
    end.

watched(Parent, Watch, {Pid, Monitor}, LimitMs) ->
    receive
        {Pid, asked} -> result(Pid, Monitor);
        {Pid, Result} -> Result;
        {'DOWN', Monitor, process, Pid, _} -> {error, {password, raised}};
        {'DOWN', Watch, process, Parent, _} -> exit(Pid, kill), ok
    after LimitMs ->
        exit(Pid, kill),
        {error, {password, timeout}}
    end.

%% Where nobody is asked, a busy machine must not make it look so.
limit(#{password := undefined}, _LimitMs) -> infinity;
limit(_Opts, LimitMs) -> LimitMs.

%% Without a limit: files are read, and nothing interrupts that.
result(Pid, Monitor) ->
    receive
        {Pid, Result} -> Result;
        {'DOWN', Monitor, process, Pid, _} -> {error, {configure, died}}
    end.

make_here(Parent, {Make, Pool, Opts, Turn}) ->
    Result = case password(Opts) of
                 {ok, Password} ->
                     Parent ! {self(), asked},
                     make(Make, Pool, Opts, Password, Turn);
                 {error, Why} ->
                     {error, {password, Why}}
             end,
    Parent ! {self(), Result}.

%% What is wrong here is not the user's options. A stack, or a reason that is more than a name, could
%% repeat the password among the arguments.
make(Make, Pool, Opts, Password, Turn) ->
    try
        Make(Pool, (native(Opts, Password))#{turn => Turn})
    catch
        error:Reason when is_atom(Reason) -> {error, {configure, Reason}};
        Class:_ -> {error, {configure, Class}}
    end.

%% Neither reason nor stack, nor what is no iodata: the password may be in them.
password(#{password := undefined}) ->
    {ok, undefined};
password(#{password := Fun}) ->
    try sockpool_callback:call(Fun, []) of
        Given ->
            try
                {ok, iolist_to_binary(Given)}
            catch
                error:badarg -> {error, not_iodata}
            end
    catch
        error:{badfun, Fun} -> {error, badfun};
        _:_ -> {error, raised}
    end.

native(Opts, Password) ->
    Texts = [cacertfile, server_name, certfile, keyfile, ciphers, ciphersuites, groups, keylog],
    #{versions := Versions, verify := Verify, alpn := Alpn, cacerts := Certs} = Opts,
    maps:merge(maps:map(fun(_Key, undefined) -> undefined;
                           (_Key, Text) -> <<Text/binary, 0>>
                        end, maps:with(Texts, Opts)),
               (maps:with([session_reuse, ktls], Opts))#{
                   cacerts => case Certs of undefined -> []; _ -> Certs end,
                   verify => Verify =:= peer,
                   min_version => hd(Versions),
                   max_version => lists:last(Versions),
                   alpn => << <<(byte_size(Name)), Name/binary>> || Name <- Alpn >>,
                   password => Password}).
