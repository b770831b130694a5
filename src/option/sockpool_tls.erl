%%% @doc The options of `transport => tls', and their way into C.
%%%
%%% ```
%%% {ok, Opts} = sockpool_tls:parse(#{cacertfile => "/etc/my/ca.pem"}),
%%% {error, Bad} = sockpool_tls:parse(#{versions => ['tlsv1.1']}),
%%% io:format("~ts~n", [sockpool_tls:format_error(Bad)]).
%%% '''
-module(sockpool_tls).

-export([parse/1, given/1, format_error/1, seal/1, configure/4, turn/0]).
-export_type([opts/0, bad_option/0]).

-type bad_option() :: {bad_option, {tls, Key :: term()}, Value :: term()}.
-type opts() :: #{atom() => term()}.
%% Every option: texts and paths are UTF-8.

%% @doc Checks the options, a map or a list of `{Key, Value}', and fills in the defaults.
-spec parse(term()) ->
          {ok, opts()} | {error, bad_option() | {bad_option, tls, not_a_list_of_options}}.
parse(Opts) ->
    case sockpool_given:map(Opts, keys()) of
        {ok, Given} ->
            try
                Parsed = sockpool_option:checked(sockpool_option_table:tls(), Given),
                ok = check_pairs(Parsed),
                {ok, Parsed}
            catch
                throw:{wrong, Key, Value} -> {error, {bad_option, {tls, Key}, Value}}
            end;
        error ->
            %% Not what it is instead: a password may be in it.
            {error, {bad_option, tls, not_a_list_of_options}}
    end.

check_pairs(#{keyfile := Key, certfile := undefined}) when Key =/= undefined ->
    throw({wrong, certfile, undefined});
check_pairs(#{cacertfile := File, cacerts := Certs}) when File =/= undefined, Certs =/= undefined ->
    throw({wrong, cacerts, Certs});
check_pairs(_Opts) ->
    ok.

%% @doc As a map, with nothing in it that is not given. What are no options stays what it is.
-spec given(term()) -> term().
given(Opts) ->
    case sockpool_given:map(Opts, keys()) of
        {ok, Given} -> Given;
        error -> Opts
    end.

keys() -> sockpool_option:keys(sockpool_option_table:tls()).

%% @doc The options, which may be wrong, without a password in clear: as wrong as they were.
-spec seal(term()) -> term().
seal(Opts) ->
    case sockpool_given:map(Opts, keys()) of
        {ok, Given} -> sockpool_option:sealed(sockpool_option_table:tls(), Given);
        error -> not_a_list_of_options
    end.

%% @doc Says which option is wrong, what its value is, and what is allowed.
-spec format_error(bad_option()) -> string().
format_error({bad_option, {tls, Key}, Value}) ->
    "tls " ++ sockpool_option:explain(sockpool_option_table:tls(), Key, Value).

%%% Into C.

%% @doc For configure/4: of two configurations the one whose turn was taken later stays.
-spec turn() -> integer().
turn() -> erlang:unique_integer([monotonic, positive]).

%% @doc Makes these options, with the files as they are now, those of the pool's next connections.
%% The password fun has `LimitMs' milliseconds: whoever calls this may have others wait for it.
-spec configure(sockpool_nif:pool(), opts(), Turn :: integer(), LimitMs :: non_neg_integer()) ->
          ok | {error, {tls, {Option :: atom(), Why :: term()}} | system_limit}.
configure(Pool, Opts, Turn, LimitMs) ->
    Parent = self(),
    Tag = make_ref(),
    try spawn_monitor(fun() -> Parent ! {Tag, watched(Parent, {Pool, Opts, Turn}, LimitMs)} end) of
        Watched -> configured(Tag, Watched)
    catch
        error:system_limit -> {error, system_limit}
    end.

configured(Tag, {Pid, Monitor}) ->
    receive
        {Tag, Result} ->
            true = demonitor(Monitor, [flush]),
            case Result of
                ok -> ok;
                {error, system_limit} -> {error, system_limit};
                {error, Reason} -> {error, {tls, Reason}}
            end;
        {'DOWN', Monitor, process, Pid, Reason} ->
            {error, {tls, {configure, sockpool_reason:of_exit(Reason)}}}
    end.

%% The work is done in a process of its own, so that the password leaves the VM's heaps at once.
%% This one sees to it that the work ends, also where the caller is killed while the fun waits.
watched(Parent, {_Pool, Opts, _Turn} = Work, LimitMs) ->
    Self = self(),
    try spawn_monitor(fun() -> configure_here(Self, Work) end) of
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

configure_here(Parent, {Pool, Opts, Turn}) ->
    Result = case password(Opts) of
                 {ok, Password} ->
                     Parent ! {self(), asked},
                     set(Pool, Opts, Password, Turn);
                 {error, Why} ->
                     {error, {password, Why}}
             end,
    Parent ! {self(), Result}.

%% What is wrong here is not the user's options. A stack, or a reason that is more than a name, could
%% repeat the password among the arguments.
set(Pool, Opts, Password, Turn) ->
    try
        sockpool_nif:tls_configure(Pool, (native(Opts, Password))#{turn => Turn})
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
