--[[
 AOFlagger strategy of the DSA-110: 24 integrations of 12.9 s, 128 to 768 channels, XX and YY.

 The input is what remains of a cross-correlation when its receptors' bandpasses are divided out and the sky is subtracted:
 noise and interference. Its amplitude, less the median amplitude of noise, comes in the real part; the imaginary part is
 zero; what a 7 sigma clip found is masked. So no high-pass filter and no normalize_subbands, which harms these data.
]]

aoflagger.require_min_version("3.0")

function execute(input)
  local base_threshold = 1.2 -- in AOFlagger's own units; lower is more sensitive

  for _, polarization in ipairs(input:get_polarizations()) do
    local data = input:convert_to_polarization(polarization)
    data = data:convert_to_complex("real")
    local original = data:copy()
    aoflagger.sumthreshold_masked(data, original, base_threshold, base_threshold, true, true)
    input:join_mask(data)
  end
end
