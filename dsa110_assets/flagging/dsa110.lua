--[[
 AOFlagger strategy of the DSA-110: 24 integrations of 12.9 s, 128 to 768 channels, XX and YY, cross-correlations whose
 receptors' bandpass has been divided out. Works on amplitudes, so that fringes of astronomical sources are not features.
 No normalize_subbands: it harms these data.
]]

aoflagger.require_min_version("3.0")

function execute(input)
  local base_threshold = 1.2 -- in units of AOFlagger's own; lower is more sensitive
  local iteration_count = 2
  local threshold_factor_step = 2.0

  local copy_of_input = input:copy()
  for _, polarization in ipairs(input:get_polarizations()) do
    local data = input:convert_to_polarization(polarization)
    data = data:convert_to_complex("amplitude")
    local original = data:copy()

    for i = 1, iteration_count - 1 do
      local factor = threshold_factor_step ^ (iteration_count - i)
      aoflagger.sumthreshold_masked(data, original, factor * base_threshold, factor * base_threshold, true, true)

      -- whole integrations (satellites) and whole channels that stand out
      local channels = data:copy()
      aoflagger.threshold_timestep_rms(data, 4.0)
      aoflagger.threshold_channel_rms(channels, 4.0 * factor, true)
      data:join_mask(channels)

      -- remove what is smooth in frequency: sky and residual bandpass
      data:set_visibilities(original)
      data:join_mask(original)
      local smooth = aoflagger.downsample(data, 1, 3, true)
      aoflagger.low_pass_filter(smooth, 21, 31, 4.0, 5.0)
      aoflagger.upsample(smooth, data, 1, 3)
      local residual = original - data
      residual:set_mask(data)
      data = residual
    end

    aoflagger.sumthreshold_masked(data, original, base_threshold, base_threshold, true, true)
    data:join_mask(original)
    input:set_polarization_data(polarization, data:convert_to_complex("complex"))
  end

  aoflagger.scale_invariant_rank_operator_masked(input, copy_of_input, 0.2, 0.2)
  aoflagger.threshold_timestep_rms(input, 4.0)
end
