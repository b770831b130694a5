%%% @private
%%% Supervises the pools of the application environment and those of sockpool:start_pool/2. A pool
%%% whose backend is down does not crash; a restart here means a bug or a kill from outside. Pools
%%% have nothing to do with each other, so a few crashes of one must not take the others down.
-module(sockpool_sup).
-behaviour(supervisor).

-export([start_link/0, start_pool/1, stop_pool/1]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    Pools = application:get_env(sockpool, pools, #{}),
    case configured(Pools) of
        {ok, Specs} -> supervisor:start_link({local, ?MODULE}, ?MODULE, Specs);
        {error, _} = Error -> Error
    end.

%% Checked before anything is started, so that the application's start names the bad option.
configured(Pools) when is_map(Pools) ->
    Bad = [{Name, Reason} || {Name, Opts} <- maps:to_list(Pools),
                             {error, Reason} <- [sockpool_opts:parse(Name, Opts)]],
    case Bad of
        [] -> {ok, [sockpool:child_spec(Name, Opts) || {Name, Opts} <- maps:to_list(Pools)]};
        [{Name, Reason} | _] -> {error, {pool, Name, Reason}}
    end;
configured(Pools) ->
    {error, {bad_option, pools, Pools}}.

-spec start_pool(supervisor:child_spec()) -> {ok, pid()} | {error, term()}.
start_pool(Spec) ->
    try supervisor:start_child(?MODULE, Spec) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid};
        {error, already_present} -> {error, already_started};
        {error, {already_started, Pid} = Reason} when is_pid(Pid) -> {error, Reason};
        {error, {Reason, _Child}} -> {error, Reason}
    catch
        exit:{noproc, _} -> {error, {not_started, sockpool}}
    end.

-spec stop_pool(term()) -> ok | {error, not_found}.
stop_pool(Id) ->
    try supervisor:terminate_child(?MODULE, Id) of
        ok -> supervisor:delete_child(?MODULE, Id);
        {error, not_found} = Error -> Error
    catch
        exit:{noproc, _} -> {error, not_found}
    end.

-spec init([supervisor:child_spec()]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Specs) ->
    Janitor = #{id => sockpool_janitor, start => {sockpool_janitor, start_link, []}},
    %% Before the pools: it stops after them, and their waiting clients hear why they end.
    Server = #{id => sockpool_server, start => {sockpool_server, start_link, []}},
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10}, [Janitor, Server | Specs]}}.
